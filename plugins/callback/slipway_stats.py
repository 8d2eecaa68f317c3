"""Write what a playbook changed to the file SLIPWAY_STATS names, for the deploy report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: slipway_stats
type: notification
short_description: Write changed tasks and totals as JSON
description:
  - Writes one JSON object with C(changed), C(failed), C(ok) and C(changed_tasks) to the file that the environment
    variable E(SLIPWAY_STATS) names; does nothing without it.
requirements: []
"""


class CallbackModule(CallbackBase):
    """Collects the names of changed tasks and the totals over all hosts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "slipway_stats"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._changed: list[str] = []

    def v2_runner_on_ok(self, result: Any) -> None:
        """Remember a task that changed something."""
        if result.is_changed():
            self._changed.append(f"{result.host.get_name()}: {result.task.get_name()}")

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Write the totals once the playbook has ended."""
        target = os.environ.get("SLIPWAY_STATS")
        if not target:
            return
        hosts = [stats.summarize(host) for host in sorted(stats.processed)]
        totals = {key: sum(host[key] for host in hosts) for key in ("ok", "changed", "failures", "unreachable")}
        Path(target).write_text(json.dumps({**totals, "changed_tasks": self._changed}), encoding="utf-8")
