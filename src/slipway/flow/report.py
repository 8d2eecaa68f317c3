"""The report of a run: seconds and changes per stage, and how to reach the service."""

from __future__ import annotations

import datetime as dt
import json
import platform
import time
from typing import TYPE_CHECKING, Any

import yaml

from slipway.files import write_atomic
from slipway.paths import IMAGES, REPORTS, ROOT, SECRETS

if TYPE_CHECKING:
    from slipway.flow.runner import Totals

API_KEY_FILE = SECRETS / "api-key"


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

    def data(self, url: str) -> dict[str, Any]:
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
            "url": url,
            "curl": curl_line(url),
            "images": yaml.safe_load(digests.read_text(encoding="utf-8"))["images"] if digests.is_file() else {},
        }

    def write(self, url: str) -> str:
        """Write `reports/COMMAND.json` and return the summary to print."""
        data = self.data(url)
        write_atomic(REPORTS / f"{self._command}.json", json.dumps(data, indent=2) + "\n")
        width = max(len(row["stage"]) for row in self._stages)
        rows = [f"  {row['stage']:<{width}}  {row['seconds']:6.1f} s  changed={row['changed']}" for row in self._stages]
        slowest = max(self._stages, key=lambda row: float(row["seconds"]))
        lines = [
            f"{self._command}: {data['seconds']:.1f} s, changed={data['changed']}, slowest stage: {slowest['stage']}",
            *rows,
        ]
        if url:
            lines += ["", f"The token service answers at {url}. Stream tokens with:", "", data["curl"], ""]
        lines.append(f"Report: reports/{self._command}.json")
        return "\n".join(lines)


def curl_line(url: str) -> str:
    """Return a command that streams tokens; it reads the API key from its file, so that no key is printed."""
    if not url:
        return ""
    key = API_KEY_FILE.relative_to(ROOT)
    body = '{"model": "demo", "prompt": "The value of an object", "max_tokens": 64, "stream": true}'
    return (
        f"curl -N {url}/v1/completions -H 'Content-Type: application/json' \\\n"
        f'  -H "Authorization: Bearer $(cat {key})" \\\n'
        f"  -d '{body}'"
    )
