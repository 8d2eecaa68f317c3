"""The first process: starts engines and HTTP workers, passes signals on, and ends when a part of it fails.

It imports nothing but the standard library, so that it is small and cannot fail for the reasons its children can. An
engine counts as hung when it gives no sign of life; a failed one is replaced ENGINE_RESTARTS times, after that the
whole service ends with a status other than 0, and whoever runs the container starts another.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from token_service import preparation, settings
from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINE_FAILED = 70
"""Exit status after an engine failed."""

_FAREWELL_SECONDS = 4.0
"""How long the HTTP side outlives its engine: streams get their error frame, probes see the red `/livez`."""

_PATIENCE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL of a process that has nothing left to do."""


@dataclass
class Child:
    """A process the supervisor started.

    Attributes:
        name: For messages.
        process: The process.
        pulse: Where its signs of life arrive; None for the HTTP side.
        started: `time.monotonic()`.
        heard: `time.monotonic()` of the last sign of life; None before the first.
    """

    name: str
    process: subprocess.Popen[bytes]
    pulse: int | None = None
    started: float = field(default_factory=time.monotonic)
    heard: float | None = None


def log(level: str, message: str, **fields: object) -> None:
    """Write one line of JSON, as the other processes do."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = {"time": stamp, "level": level, "logger": "token_service.supervisor", "pid": os.getpid()}
    sys.stdout.write(json.dumps(line | {"message": message} | fields) + "\n")
    sys.stdout.flush()


class Supervisor:
    """Runs one service."""

    def __init__(self, config: settings.Settings, engine: str) -> None:
        self._config = config
        self._engine_module = engine
        self._engines: dict[str, Child] = {}
        self._http: Child | None = None
        self._restarts = dict.fromkeys((model.name for model in config.models), 0)
        self._selector = selectors.DefaultSelector()
        self._draining = False
        self._deadline = float("inf")
        self._status = 0

    def run(self) -> int:
        """Serve until SIGTERM, or until a part fails; return the exit status."""
        awake, wake = socket.socketpair()
        for end in (awake, wake):
            end.setblocking(False)  # noqa: FBT003 - the socket's own signature
        signal.set_wakeup_fd(wake.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: self._drain(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(awake, selectors.EVENT_READ, lambda: awake.recv(4096) and None)
        try:
            for model in self._config.models:
                self._start_engine(model.name)
            self._http = Child("http", self._start([sys.executable, "-m", "token_service.server"]))
            while self._turn():
                for key, _ in self._selector.select(timeout=1):
                    key.data()
        finally:
            self._end_all()
        return self._status

    def _turn(self) -> bool:
        """Look after all children; return False when the HTTP side has ended."""
        if self._http is None or self._http.process.poll() is not None:
            self._conclude()
            return False
        now = time.monotonic()
        for name, child in list(self._engines.items()):
            status = child.process.poll()
            if status is None and self._silent(child, now):
                log("critical", "an engine gives no sign of life; ending it", model=name)
                _kill(child.process)
                status = child.process.wait()
            if status is not None:
                self._bury(name, child, status)
        if now < self._deadline:
            return True
        if not self._status:
            log("error", "the HTTP side did not end in time")
            self._status = 1
        return False

    def _silent(self, child: Child, now: float) -> bool:
        if child.heard is None:
            return now - child.started > self._config.load_timeout
        return now - child.heard > self._config.step_timeout

    def _bury(self, name: str, child: Child, status: int) -> None:
        del self._engines[name]
        if child.pulse is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.pulse)
            os.close(child.pulse)
        for stale in self._config.metrics_dir.glob(f"gauge_live*_{child.process.pid}.db"):
            stale.unlink(missing_ok=True)
        if self._draining:
            return
        level = "error" if child.heard else "info"
        log(
            level,
            "an engine ended",
            model=name,
            status=status,
            after_seconds=round(time.monotonic() - child.started, 1),
        )
        if child.heard and self._restarts[name] < self._config.engine_restarts:
            self._restarts[name] += 1
            self._start_engine(name)
            return
        self._draining = True
        self._status = ENGINE_FAILED if child.heard else 1
        if child.heard is None:  # it never served: nobody waits for an answer
            self._end_all()
        else:
            self._deadline = time.monotonic() + _FAREWELL_SECONDS

    def _conclude(self) -> None:
        """Note why the HTTP side ended."""
        status = self._http.process.returncode if self._http else 1
        if status and not self._status:
            self._status = 1
            log("error", "the HTTP side ended", status=status)
        elif not self._draining:
            self._status = 1
            log("error", "the HTTP side ended without being asked to")

    def _start(self, words: list[str], descriptors: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        # A group of its own: Ctrl-C reaches the supervisor alone, and no grandchild outlives the child.
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=descriptors, process_group=0)

    def _start_engine(self, name: str) -> None:
        self._config.socket(name).unlink(missing_ok=True)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        words = [sys.executable, "-m", self._engine_module, name, str(writer), str(self._restarts[name])]
        child = Child(name, self._start(words, (writer,)), reader)
        os.close(writer)
        self._engines[name] = child
        self._selector.register(reader, selectors.EVENT_READ, self._listener(child, reader))

    def _listener(self, child: Child, reader: int) -> Callable[[], None]:
        def listen() -> None:
            with contextlib.suppress(BlockingIOError):
                if os.read(reader, 4096):
                    child.heard = time.monotonic()
                else:  # the other end is closed; the next turn finds out why
                    self._selector.unregister(reader)

        return listen

    def _drain(self, number: int) -> None:
        """Tell the HTTP side to finish; a second signal ends it at once."""
        if self._http is None or self._http.process.poll() is not None:
            return
        if self._draining and number == signal.SIGINT:
            self._deadline = 0
            return
        self._draining = True
        self._deadline = min(self._deadline, time.monotonic() + self._config.graceful_timeout + _PATIENCE_SECONDS)
        self._http.process.send_signal(signal.SIGTERM)

    def _end_all(self) -> None:
        """End what still runs: first the HTTP side, then the engines."""
        for group in ([self._http] if self._http else [], list(self._engines.values())):
            for child in group:
                if child.process.poll() is None:
                    child.process.terminate()
            limit = time.monotonic() + _PATIENCE_SECONDS
            for child in group:
                try:
                    child.process.wait(max(0.1, limit - time.monotonic()))
                except subprocess.TimeoutExpired:
                    _kill(child.process)
                    child.process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def main(engine: str = "token_service.engine") -> int:
    """Run the service; return its exit status.

    Args:
        engine: Module of the engine process; the benchmark puts others behind the same HTTP side.
    """
    try:
        config = settings.read()
        preparation.prepare(config)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    preparation.share_environment(config)
    return Supervisor(config, engine).run()
