"""Fixtures of the end-to-end tests: they deploy to this machine with the commands that a user types."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from slipway.paths import LOGS, ROOT
from tests.e2e.machine import RUNS, Outcome, docker, engine_answers, nox, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def before() -> dict[str, list[str]]:
    """The engine's state before the first deployment; empty lists when no engine ran."""
    return snapshot()


@pytest.fixture(scope="session")
def deployed(before: dict[str, list[str]]) -> Iterator[Outcome]:
    """The outcome of the first `nox -s deploy`; whatever happens, the deployment is removed at the end."""
    del before
    yield nox("-s", "deploy")
    if engine_answers() and docker("stack", "ls", "--format", "{{.Name}}").split():
        nox("-s", "destroy")


@pytest.fixture
def curl() -> None:
    """A bare machine has no curl; the printed line needs it."""
    if not shutil.which("curl"):
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
        subprocess.run([*prefix, "apt-get", "install", "-y", "--no-install-recommends", "curl"], check=True)


@pytest.fixture
def source_file() -> Iterator[Path]:
    """A source file of the service, restored after the test."""
    path = ROOT / "src" / "token_service" / "__init__.py"
    original = path.read_bytes()
    yield path
    path.write_bytes(original)


@pytest.fixture
def broken_model(tmp_path: Path) -> Path:
    """A copy of the demo model with one byte changed after its manifest was written."""
    target = tmp_path / "broken"
    shutil.copytree(ROOT / "models" / "demo", target)
    weights = target / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0xFF
    weights.write_bytes(content)
    return target


@pytest.fixture
def own_model(tmp_path: Path) -> Path:
    """A model of the operator's own: the demo model in another folder."""
    target: Path = tmp_path / "mine"
    shutil.copytree(ROOT / "models" / "demo", target)
    return target


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """On failure, add the newest log of the token service and the tail of the stage logs to the report."""
    del call
    outcome = yield  # pluggy sends its result object
    report = outcome.get_result()  # type: ignore[attr-defined] # pluggy's result object
    if report.when == "call" and report.failed:
        label = "label=com.docker.swarm.service.name=slipway_token-service"
        for name in docker("ps", "-a", "--filter", label, "--format", "{{.Names}}").split():
            item.add_report_section("call", name, docker("logs", "--tail", "20", name))
        for path in sorted(LOGS.glob("*.log")):
            tail = path.read_text(encoding="utf-8", errors="replace")[-3000:]
            item.add_report_section("call", path.name, tail)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long each command took: the figures of docs/benchmarks/deploy.md."""
    terminalreporter.section("commands")
    for line in RUNS:
        terminalreporter.line(line)
