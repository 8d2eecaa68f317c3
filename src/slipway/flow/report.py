"""The report of a run: seconds and changes per stage, and how to reach the service."""

from __future__ import annotations

import datetime as dt
import json
import platform
import time
from typing import TYPE_CHECKING, Any

import yaml

from slipway.files import write_atomic
from slipway.paths import IMAGES, REPORTS

if TYPE_CHECKING:
    from slipway.flow.runner import Totals
    from slipway.flow.service import Service


class Report:
    """Collects what each stage did and renders it for people and for programs."""

    def __init__(self, command: str, inventory: str) -> None:
        self._command = command
        self._inventory = inventory
        self._started = dt.datetime.now(dt.UTC)
        self._begin = time.monotonic()
        self._stages: list[dict[str, Any]] = []

    def add(self, stage: str, seconds: float, totals: Totals) -> None:
        """Record a finished stage: wall-clock seconds and what it changed."""
        row = {"stage": stage, "seconds": round(seconds, 1), "changed": totals.changed, "changed_names": totals.names}
        self._stages.append(row)

    def data(self, service: Service | None) -> dict[str, Any]:
        """Return the report as plain values; `seconds` are wall clock, `changed` counts tasks and artefacts."""
        digests = IMAGES / "digests.yml"
        return {
            "command": self._command,
            "inventory": self._inventory,
            "host": platform.node(),
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._begin, 1),
            "changed": sum(row["changed"] for row in self._stages),
            "stages": self._stages,
            "url": service.url if service else "",
            "curl": service.curl if service else "",
            "images": yaml.safe_load(digests.read_text(encoding="utf-8"))["images"] if digests.is_file() else {},
        }

    def write(self, service: Service | None) -> str:
        """Write `reports/COMMAND.json` and return the summary to print."""
        data = self.data(service)
        write_atomic(REPORTS / f"{self._command}.json", json.dumps(data, indent=2) + "\n")
        width = max(len(row["stage"]) for row in self._stages)
        rows = [f"  {row['stage']:<{width}}  {row['seconds']:6.1f} s  changed={row['changed']}" for row in self._stages]
        slowest = max(self._stages, key=lambda row: float(row["seconds"]))
        lines = [
            f"{self._command}: {data['seconds']:.1f} s, changed={data['changed']}, slowest stage: {slowest['stage']}",
            *rows,
        ]
        if service:
            lines += ["", f"The token service answers at {service.url}. Stream tokens with:", "", service.curl, ""]
        lines.append(f"Report: reports/{self._command}.json")
        return "\n".join(lines)
