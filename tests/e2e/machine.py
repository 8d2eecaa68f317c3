"""This machine as the end-to-end tests see it: nox, the engine's client, the generated key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from slipway.paths import REPORTS, ROOT, SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "http://127.0.0.1:8000"
_LIMIT_SECONDS = 1500


@dataclass(frozen=True)
class Outcome:
    """Exit status and everything printed by a command."""

    status: int
    output: str


def start(*words: str) -> subprocess.Popen[str]:
    """Start `nox WORDS` in a process group of its own, output to a pipe."""
    command = [sys.executable, "-m", "nox", *words]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


RUNS: list[str] = []
"""One line for each finished `nox` of this test run: what, seconds, changes, seconds per stage."""


def describe(words: tuple[str, ...], begun: float) -> str:
    """Return the line about a run, from the report it wrote."""
    line = f"{time.monotonic() - begun:6.1f} s  nox {' '.join(words)}"
    report = REPORTS / f"{words[1]}.json"
    if not report.is_file():
        return line
    data = json.loads(report.read_text(encoding="utf-8"))
    stages = ", ".join(f"{row['stage']} {row['seconds']}" for row in data["stages"])
    return f"{line}: changed={data['changed']} ({stages})"


def nox(*words: str) -> Outcome:
    """Run `nox WORDS` to its end; the output is also printed, so that a failure shows it."""
    (REPORTS / f"{words[1]}.json").unlink(missing_ok=True)
    begun = time.monotonic()
    process = start(*words)
    try:
        output, _ = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    sys.stdout.write(output)
    RUNS.append(describe(words, begun))
    return Outcome(process.returncode, output)


def api_key() -> str:
    """Return the key that deploy generated."""
    return (SECRETS / "api-key").read_text(encoding="utf-8").strip()


def docker(*words: str) -> str:
    """Return what the engine's client answers; empty when no engine runs."""
    client = "/usr/bin/docker"
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not Path(client).exists():
        return ""
    done = subprocess.run([*prefix, client, *words], capture_output=True, text=True, check=False, timeout=120)
    return f"{done.stdout}{done.stderr}" if words[0] == "logs" else done.stdout if done.returncode == 0 else ""


def snapshot() -> dict[str, list[str]]:
    """Return containers, volumes and networks of the engine, by name."""
    return {
        "containers": sorted(docker("ps", "-a", "--format", "{{.Names}}").split()),
        "volumes": sorted(docker("volume", "ls", "--format", "{{.Name}}").split()),
        "networks": sorted(docker("network", "ls", "--format", "{{.Name}}").split()),
    }


def engine_answers() -> bool:
    """Tell whether an engine runs on this machine."""
    return bool(docker("version", "--format", "{{.Server.Version}}"))


def last_report(name: str = "deploy") -> dict[str, Any]:
    """Return the report of the last run."""
    loaded: dict[str, Any] = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return once `condition()` is true; fail naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)


def models(**folders: Path) -> str:
    """Return the setting that serves these models."""
    return json.dumps(
        {"token_service_models": [{"name": name, "source": str(folder)} for name, folder in folders.items()]}
    )


def served(url: str) -> list[str]:
    """Return the names of the models that the service lists."""
    headers = {"Authorization": f"Bearer {api_key()}"}
    return [entry["id"] for entry in httpx.get(f"{url}/v1/models", headers=headers).json()["data"]]


def statuses(key: str, path: str = "/v1/models") -> set[int]:
    """Return what a key gets, from enough new connections to meet every worker of both tasks."""
    return {httpx.get(URL + path, headers={"Authorization": f"Bearer {key}"}).status_code for _ in range(40)}


def tasks() -> list[str]:
    """Return the containers of the token service."""
    return sorted(docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=slipway_token-service").split())
