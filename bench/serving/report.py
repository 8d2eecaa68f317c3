"""Results so far: `reports/serving.json`, one entry per part, so that parts can be measured in several runs."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from slipway.files import write_atomic
from slipway.paths import REPORTS

FILE = REPORTS / "serving.json"
Result = dict[str, Any]


def load(file: Path = FILE) -> dict[str, Result]:
    """Return part -> result; nothing when there is no report, or none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def machine() -> Result:
    """Return what a figure depends on: processors, memory, versions are in the lock."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": len(os.sched_getaffinity(0)),
        "processor": model[1] if model else platform.machine(),
        "memory_gib": round(memory / 2**30),
    }


def save(part: str, result: Result, file: Path = FILE) -> dict[str, Result]:
    """Put one part's result in the place of its earlier one and return all."""
    found = load(file)
    found[part] = {"at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "machine": machine(), **result}
    write_atomic(file, json.dumps(found, indent=1) + "\n")
    return found
