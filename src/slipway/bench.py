"""Measure how long an environment takes to install: from the lock, with pip and with uv, in one run.

`nox -s bench -- environment [ROUNDS]` writes docs/benchmarks/environment.md and reports/bench-environment.json.
All three install the same wheels from local files into an empty environment with an empty cache, in turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slipway import paths
from slipway.channel.ensure import ensure_channel
from slipway.channel.pip import fetch_wheels
from slipway.errors import SlipwayError
from slipway.files import write_atomic
from slipway.lock.store import HEADER, read_channel_lock
from slipway.progress import say

_INSTALL = """
import sys
from pathlib import Path
from rattler import install
from slipway.channel.aio import run
from slipway.dev import locked_records
lock, channel, prefix, cache = map(Path, sys.argv[1:])
run(install(locked_records(lock, channel), target_prefix=prefix, cache_dir=cache, show_progress=False))
"""
_PAGE = """{header}# Installing the token service's environment

{count} wheels, {size} MB, from local files into an empty environment with an empty package cache; {rounds} rounds
in turns, on {cpus} processors. Two things make the tools unequal. `slipway` also installs CPython itself, where pip and
uv get a virtual environment that is already there; and the channel leaves out what `channel.yml` excludes, some 200 MB
of torch's headers and test programs, which pip and uv unpack. pip compiles every module to bytecode unless told not
to, so both are shown; `slipway` and uv do not compile. Absolute times depend on what else the machine does.

| tool | median s | all rounds s | ratio to slipway |
|---|---|---|---|
{rows}

Regenerate with `nox -s bench -- environment`.
"""


def measure(rounds: int) -> dict[str, list[float]]:
    """Return tool -> seconds of each round.

    Raises:
        SlipwayError: uv is missing.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise SlipwayError("uv is not installed", rule="the benchmark compares with it", run="pip install uv")
    ensure_channel("fail")
    wheels = [one.recipe.wheel for one in read_channel_lock(paths.LOCKS).artefacts if one.recipe.wheel]
    files = [str(path) for path in fetch_wheels(wheels).values()]
    interpreter = next((paths.CACHE / "interpreter").glob("*/bin/python"))
    times: dict[str, list[float]] = {"slipway": [], "uv": [], "pip --no-compile": [], "pip": []}
    for number in range(rounds):
        for tool, seen in times.items():
            with tempfile.TemporaryDirectory(dir=paths.STATE) as name:
                seconds = _install(tool, Path(name), files, uv, interpreter)
            seen.append(seconds)
            say(f"bench: round {number + 1}: {tool} {seconds:.1f} s")
    return times


def _install(tool: str, folder: Path, files: list[str], uv: str, interpreter: Path) -> float:
    """Install once and return the seconds that the installation alone took."""
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT / "src"), "UV_CACHE_DIR": str(folder / "uv")}
    prefix = folder / "env"
    offline = ["--no-index", "--no-deps"]
    if tool == "slipway":
        lock = str(paths.LOCKS / "token-service.lock")
        command = [sys.executable, "-c", _INSTALL, lock, str(paths.CHANNEL), str(prefix), str(folder / "cache")]
    else:
        subprocess.run([str(interpreter), "-m", "venv", "--without-pip", str(prefix)], check=True)
        python = str(prefix / "bin/python")
        pip = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-cache-dir", *offline]
        commands = {
            "uv": [uv, "pip", "install", "--quiet", f"--python={python}", *offline, *files],
            "pip": [*pip, *files],
            "pip --no-compile": [*pip, "--no-compile", *files],
        }
        command = commands[tool]
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Measure, print the ratios and write both reports."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    times = measure(rounds)
    base = statistics.median(times["slipway"])
    wheels = [one.recipe.wheel for one in read_channel_lock(paths.LOCKS).artefacts if one.recipe.wheel]
    rows = []
    for tool, seconds in times.items():
        median = statistics.median(seconds)
        ratio = median / base
        rows.append(f"| {tool} | {median:.1f} | {', '.join(f'{one:.1f}' for one in seconds)} | {ratio:.1f} |")
        say(f"bench: {tool}: {median:.1f} s, {ratio:.1f} times slipway")
    page = _PAGE.format(
        header=HEADER.replace("nox -s lock", "nox -s bench -- environment")
        .replace("# ", "<!-- ")
        .replace("\n", " -->\n\n"),
        count=len(wheels),
        size=round(sum(wheel.size for wheel in wheels) / 1e6),
        rounds=rounds,
        cpus=os.cpu_count(),
        rows="\n".join(rows),
    )
    write_atomic(paths.ROOT / "docs/benchmarks/environment.md", page)
    report = {"seconds": times, "ratios": {tool: statistics.median(row) / base for tool, row in times.items()}}
    write_atomic(paths.REPORTS / "bench-environment.json", json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except SlipwayError as error:
        sys.stderr.write(f"slipway: {error}\n")
        sys.exit(error.exit_code)
