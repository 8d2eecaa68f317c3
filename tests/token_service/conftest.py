"""The real service on the demo model: in process for its parts, as a gunicorn process for its behaviour."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
Start = Callable[..., tuple["subprocess.Popen[bytes]", httpx.Client]]


@pytest.fixture(scope="session")
def demo() -> Path:
    """The committed demo model."""
    return DEMO


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo model that a test may damage."""
    return Path(shutil.copytree(DEMO, tmp_path / "model"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(process: subprocess.Popen[bytes], client: httpx.Client, log: Path, route: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the service left with status {process.returncode}:\n{log.read_text()}")
        try:
            if client.get(route).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.05)  # the port is not open yet
    pytest.fail(f"the service was not ready within 90 s:\n{log.read_text()}")


def _session(leader: int) -> list[int]:
    """Return the processes of a session: every process of a service has a group of its own."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader:
                found.append(int(file.parent.name))
    return found


def _starter(scratch: Path) -> Iterator[Start]:
    started: list[tuple[subprocess.Popen[bytes], httpx.Client, Path]] = []

    def start(
        engine: str = "token_service.engine", python: str = sys.executable, until: str = "/readyz", **overrides: str
    ) -> tuple[subprocess.Popen[bytes], httpx.Client]:
        port, log = _free_port(), scratch / f"service-{len(started)}.log"
        values = {
            "MODEL_DIR": str(DEMO),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "WORKERS": "1",
            "THREADS": "1",
            "DRAIN_SECONDS": "1",
            "ENVIRONMENT_CHECK": "off",
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TOKEN_SERVICE_", "PROMETHEUS_"))}
        environment |= {f"TOKEN_SERVICE_{name}": value for name, value in (values | overrides).items()}
        environment |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TMPDIR": str(scratch)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    python,
                    "-c",
                    f"import sys; from token_service import supervisor as s; sys.exit(s.main({engine!r}))",
                ],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        started.append((process, client, log))
        _wait_ready(process, client, log, until)
        return process, client

    yield start
    for process, client, log in started:
        client.close()
        for pid in _session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        print(log.read_text())  # noqa: T201 - shown by pytest when the test failed


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A starter of services of the test's own, given settings and returning process and client."""
    yield from _starter(tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of one service with two workers, shared by a module's tests."""
    for start in _starter(tmp_path_factory.mktemp("service")):
        yield start(WORKERS="2")[1]
