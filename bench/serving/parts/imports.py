"""What the processes of the service import at start, and how long that takes with and without bytecode."""

from __future__ import annotations

import collections
import re
import subprocess
from statistics import median
from typing import TYPE_CHECKING

from bench.serving.errors import BenchError
from bench.serving.process import environment, python
from slipway.paths import ROOT
from slipway.progress import say

if TYPE_CHECKING:
    from bench.serving.plan import Plan
    from bench.serving.report import Result

TITLE = "Imports, process by process"
_PROCESSES = {
    "supervisor": "import token_service.supervisor",
    "HTTP workers": "import token_service.server, token_service.app",
    "engine": (
        "import token_service.logs, token_service.settings, token_service.engine.build, token_service.engine.process; "
        "import transformers.models.llama.modeling_llama"
    ),
    "health check": "import token_service.healthcheck",
}
_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)
_ROWS = 8


def _once(plan: Plan, code: str, *, bytecode: bool) -> dict[str, float]:
    """Return top-level package -> milliseconds of its own modules."""
    variables = environment(plan.scratch, {})
    if not bytecode:
        variables |= {"PYTHONPYCACHEPREFIX": str(plan.scratch / "nothing"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python(), "-X", "importtime", "-c", code], env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{code}: {done.stderr[-600:]}")
    sums: collections.Counter[str] = collections.Counter()
    for microseconds, module in _LINE.findall(done.stderr):
        sums[module.partition(".")[0]] += int(microseconds)
    return {name: value / 1000 for name, value in sums.items()}


def run(plan: Plan) -> Result:
    """Import each process's modules several times, with bytecode and without in turns."""
    found = {}
    for process, code in _PROCESSES.items():
        _once(plan, code, bytecode=True)  # compiles what is new
        runs: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        for _ in range(plan.rounds):
            for bytecode, seen in runs.items():
                seen.append(_once(plan, code, bytecode=bytecode))
        names = {name for seen in runs[True] for name in seen}
        packages = {name: median(seen.get(name, 0) for seen in runs[True]) for name in names}
        found[process] = {
            "code": code,
            "milliseconds": median(sum(seen.values()) for seen in runs[True]),
            "without_bytecode": median(sum(seen.values()) for seen in runs[False]),
            "packages": dict(sorted(packages.items(), key=lambda item: -item[1])[:_ROWS]),
        }
        say(
            f"bench: imports of {process}: {found[process]['milliseconds']:.0f} ms, "
            f"{found[process]['without_bytecode']:.0f} ms without bytecode"
        )
    return {"processes": found}


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    lines = [
        (
            "`python -X importtime`, median of the runs; a package's time is that of its own modules, without what "
            "they import from others. Images carry bytecode for exactly these modules."
        ),
        "",
        "| process | with bytecode ms | without ms |",
        "|---|---|---|",
    ]
    for process, seen in result["processes"].items():
        lines.append(f"| {process} | {seen['milliseconds']:.0f} | {seen['without_bytecode']:.0f} |")
    for process, seen in result["processes"].items():
        lines += ["", f"### {process}", "", f"`{seen['code']}`", "", "| package | ms |", "|---|---|"]
        rest = seen["milliseconds"] - sum(seen["packages"].values())
        lines += [f"| {name} | {value:.1f} |" for name, value in seen["packages"].items()]
        lines += [f"| everything else | {max(rest, 0):.1f} |"]
    return lines
