"""Start the service, or a peer of it, as a process of the benchmark's own; watch and stop it."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.serving.errors import BenchError
from slipway.paths import CACHE, ENVS, ROOT
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

PYTHON = ENVS / "token-service" / "bin" / "python"
DEMO = ROOT / "models" / "demo"
PYCACHE = CACHE / "pycache"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_PSS = re.compile(r"^Pss:\s+(\d+)", re.MULTILINE)
_START_SECONDS = 300
_SETTLE_SECONDS = 120
_CHECK = b"-m token_service.environment"
_OK = 200


def python() -> str:
    """Return the interpreter of the service's environment.

    Raises:
        BenchError: there is none.
    """
    if not PYTHON.exists():
        raise BenchError(f"{PYTHON} does not exist: the service's environment is needed; run: nox -s dev")
    return str(PYTHON)


def environment(scratch: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a service process: nothing of the caller's settings leaks in."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TOKEN_SERVICE_", "PROMETHEUS_"))}
    return {
        **kept,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "PYTHONPYCACHEPREFIX": str(PYCACHE),
        "PYTHONDONTWRITEBYTECODE": "",
        "TMPDIR": str(scratch),
        **{f"TOKEN_SERVICE_{name}": value for name, value in settings.items()},
    }


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, path: str, timeout: float = 10) -> tuple[int, str]:
    """Return status and body of a GET; status 0 when nobody answers."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


class Server:
    """One service process and its children, from `start` to `stop`; a context manager."""

    def __init__(self, scratch: Path, model: Path, command: Sequence[str] = (), **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.scratch = scratch
        self.log = scratch / f"server-{self.port}.log"
        self.model = "bench"
        self._command = [python(), *(command or ("-m", "token_service"))]
        self._settings = {
            "MODELS": f"{self.model}={model}",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DEVICE": "cpu",
            "DRAIN_SECONDS": "0",
            "LOG_LEVEL": "warning",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        self.settle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the first process.

        Raises:
            BenchError: it was not started.
        """
        if self._process is None:
            raise BenchError("the server was not started")
        return self._process.pid

    def start(self, **variables: str) -> None:
        """Start without waiting; `variables` are added to the environment."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment(self.scratch, self._settings) | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def running(self) -> None:
        """Do nothing while the first process lives.

        Raises:
            BenchError: it has ended; the text has the end of its log.
        """
        if self._process is not None and self._process.poll() is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise BenchError(f"{' '.join(self._command[1:])} left with status {self._process.returncode}:\n{tail}")

    def wait_ready(self) -> None:
        """Return when `/readyz` says yes.

        Raises:
            BenchError: it did not within five minutes.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.running()
            if get(self.url, "/readyz")[0] == _OK:
                return
            time.sleep(0.05)  # nothing tells when the port opens
        raise BenchError(f"not ready after {_START_SECONDS} s; log: {self.log}")

    def settle(self) -> None:
        """Return when the engine has compared its environment with the lock: that takes time from what is measured."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self._family(_CHECK):
            if time.monotonic() > deadline:
                say(f"bench: the environment check still runs after {_SETTLE_SECONDS} s; figures suffer")
                return
            time.sleep(0.2)  # a process that is not ours to wait for

    def stop(self) -> None:
        """End the process politely, then what is left of its session."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def processes(self) -> set[int]:
        """Return the ids of the first process and of all its descendants, without the passing environment check."""
        return self._family() - self._family(_CHECK)

    def _family(self, words: bytes = b"") -> set[int]:
        """Return the ids of the first process and its descendants, of those with `words` in their command line."""
        parents: dict[int, list[int]] = {}
        wanted = set()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
                if words in (entry / "cmdline").read_bytes().replace(b"\0", b" "):
                    wanted.add(int(entry.name))
        found = [self.pid]
        for pid in found:
            found.extend(parents.get(pid, ()))
        return wanted & set(found)

    def memory(self) -> int:
        """Return the proportional set size of all processes in bytes: shared pages count once in all."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):  # it ended meanwhile
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
                total += sum(int(size) for size in _PSS.findall(rollup)) * 1024
        return total

    def metrics(self) -> dict[str, float]:
        """Return the samples of `/metrics`, summed over labels; histograms' buckets left out, kinds kept apart."""
        sums: dict[str, float] = {}
        for name, labels, value in _SAMPLE.findall(get(self.url, "/metrics")[1]):
            kind = re.search(r'kind="(\w+)"', labels)
            if not name.endswith("_bucket"):
                for key in {name, f"{name}:{kind[1]}" if kind else name}:
                    sums[key] = sums.get(key, 0) + float(value)
        return sums
