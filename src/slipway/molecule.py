"""`nox -s molecule`: run Molecule's scenarios, bounded in parallel, with a log and test results for each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.errors import SlipwayError
from slipway.flow.runner import run_playbook
from slipway.paths import REPORTS, ROOT
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCENARIOS = ROOT / "molecule"
_DOCKER = "/usr/bin/docker"
_TAIL_LINES = 60
_HOST_LOGS = (
    "journalctl --no-pager --lines=200 2>/dev/null; tail -n 200 /var/log/docker.log /var/log/slipway-dockerd.log"
)


@dataclass(frozen=True)
class Scenario:
    """One folder below `molecule/` with its molecule.yml.

    Attributes:
        name: The folder's name.
        purpose: The first comment of its molecule.yml.
    """

    name: str
    purpose: str


@dataclass(frozen=True)
class Outcome:
    """How a scenario ended: `status` is molecule's exit status, `seconds` wall-clock time, `log` its whole output."""

    scenario: Scenario
    status: int
    seconds: float
    log: Path


def scenarios(folder: Path = _SCENARIOS) -> list[Scenario]:
    """Return every scenario in `folder` by name, `default` first because the others vary it."""
    found = [Scenario(path.parent.name, _purpose(path)) for path in folder.glob("*/molecule.yml")]
    return sorted(found, key=lambda scenario: (scenario.name != "default", scenario.name))


def chosen(names: tuple[str, ...], known: list[Scenario]) -> list[Scenario]:
    """Return the named scenarios in the order given, all of them when none is named.

    Raises:
        SlipwayError: a name is not that of a scenario.
    """
    by_name = {scenario.name: scenario for scenario in known}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise SlipwayError(
            "There is no such Molecule scenario.",
            seen=", ".join(unknown),
            rule=f"one of {', '.join(by_name)}",
            run="nox -s molecule -- --list",
        )
    return [by_name[name] for name in dict.fromkeys(names)] or known


def _purpose(path: Path) -> str:
    """Return the leading comment of a molecule.yml as one line."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line != "---"]
    words = []
    for line in lines:
        if not line.startswith("#"):
            break
        words.append(line.removeprefix("#").strip())
    return " ".join(words)


def _run(scenario: Scenario, *, keep: bool) -> Outcome:
    """Run one scenario from start to end; its hosts are gone afterwards unless they are to be kept."""
    reports = REPORTS / "molecule" / scenario.name
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    log = reports / "molecule.log"
    say(f"{scenario.name}: started, log in {log.relative_to(ROOT)}")
    started = time.monotonic()
    with log.open("wb") as stream:
        status = _molecule("test", scenario, stream.fileno(), "--destroy=never")
        if status != 0:
            _collect_logs(scenario, reports)
    if not keep:
        # A log of its own: the end of the other one says what failed.
        with (reports / "destroy.log").open("wb") as stream:
            _molecule("destroy", scenario, stream.fileno())
    return Outcome(scenario, status, time.monotonic() - started, log)


def _molecule(action: str, scenario: Scenario, output: int, *options: str) -> int:
    """Run one molecule command with its output in a file; return its exit status."""
    # A line per line: boxes and colours are for terminals, and 80 columns would cut error texts apart.
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "240"}
    tools = Path(sys.executable).parent
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    command = [str(tools / "molecule"), action, "--scenario-name", scenario.name, *options]
    return subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False, env=environment).returncode


def _collect_logs(scenario: Scenario, reports: Path) -> None:
    """Save what the daemons on the scenario's hosts logged, before the hosts go."""
    label = f"label=com.slipway.molecule={scenario.name}"
    listing = [_DOCKER, "ps", "--all", "--filter", label, "--format", "{{.Names}}"]
    names = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
    for name in names:
        with (reports / f"{name}.log").open("wb") as stream:
            subprocess.run([_DOCKER, "logs", name], stdout=stream, stderr=stream, check=False)
            subprocess.run([_DOCKER, "exec", name, "sh", "-c", _HOST_LOGS], stdout=stream, stderr=stream, check=False)


def _report(outcome: Outcome) -> None:
    """Say how a scenario ended; of a failed one, show the end of its log."""
    verdict = "passed" if outcome.status == 0 else f"FAILED (exit status {outcome.status})"
    say(f"{outcome.scenario.name}: {verdict} in {outcome.seconds:.0f} s")
    if outcome.status != 0:
        lines = outcome.log.read_text(encoding="utf-8", errors="replace").splitlines()
        say("\n".join(lines[-_TAIL_LINES:]))


@contextlib.contextmanager
def _machine() -> Iterator[None]:
    """Have an engine and mmdebstrap while the block runs; an engine that was started for it is stopped again."""
    answers = _engine_answers()
    if answers and shutil.which("mmdebstrap"):
        yield
        return
    run_playbook("molecule", "local", ["--tags", "prepare"])
    try:
        yield
    finally:
        if not answers:
            run_playbook("molecule", "local", ["--tags", "remove"])


def _engine_answers() -> bool:
    """Tell whether a client is installed and an engine answers it."""
    if not Path(_DOCKER).exists():
        return False
    return subprocess.run([_DOCKER, "version"], capture_output=True, check=False).returncode == 0


@click.command("molecule")
@click.argument("names", nargs=-1)
@click.option("--list", "listing", is_flag=True, help="Print the scenarios and what each is for.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Scenarios at a time.")
@click.option("--keep", is_flag=True, help="Leave the throw-away hosts, to look at them.")
def command(names: tuple[str, ...], *, listing: bool, jobs: int, keep: bool) -> None:
    """Run Molecule scenarios NAMES (default: all) on throw-away hosts; results lie in reports/molecule/NAME/."""
    wanted = chosen(names, scenarios())
    if listing:
        for scenario in wanted:
            click.echo(f"{scenario.name:<16} {scenario.purpose}")
        return
    with _machine(), ThreadPoolExecutor(max_workers=jobs) as pool:
        running = [pool.submit(_run, scenario, keep=keep) for scenario in wanted]
        outcomes = []
        for done in as_completed(running):
            outcomes.append(done.result())
            _report(outcomes[-1])
    failed = [outcome.scenario.name for outcome in outcomes if outcome.status != 0]
    if failed:
        raise SlipwayError(
            f"{len(failed)} of {len(outcomes)} Molecule scenarios failed.",
            seen=", ".join(failed),
            rule="every scenario passes",
            run=f"nox -s molecule -- --keep {failed[0]}; logs are in reports/molecule/{failed[0]}/",
        )
