"""The engine process: loads one model, then answers HTTP workers over its socket until SIGTERM.

The main thread runs the event loop, so that submissions are answered and signs of life sent while the batcher's thread
computes. A pass that takes too long, a batcher that fails, and a supervisor that vanishes all end the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from token_service import metrics, protocol
from token_service.protocol import EngineBusy, Hello, Message, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from token_service.engine.batcher import Batcher
    from token_service.engine.sequence import Key
    from token_service.settings import Settings

_log = logging.getLogger(__name__)

HUNG, FAILED = 75, 70
"""Exit statuses: a pass took too long; the batcher failed."""

_LAGGING_BYTES = 64 << 20
"""A worker that leaves so much unread is disconnected."""


def _later(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *values: object) -> None:
    """Call something in the event loop's thread; nothing happens when the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *values)


class Process:
    """Everything about the engine that is not the model."""

    def __init__(
        self, settings: Settings, batcher: Batcher, hello: Hello, pulse: int, problems: Sequence[str] = ()
    ) -> None:
        self._settings = settings
        self._batcher = batcher
        self._hello = hello
        self._pulse = pulse
        self._numbers = itertools.count(1)
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._environment = problems[0] if problems else "ok"
        self._stop = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Serve until SIGTERM or until the batcher fails; return the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        self._batcher.start(lambda steps: _later(loop, self._deliver, steps), lambda: _later(loop, self._end, FAILED))
        path = self._settings.socket(self._hello.model)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, path, limit=1 << 24)
        path.chmod(0o600)
        os.write(self._pulse, b"r")
        tasks = [asyncio.create_task(self._report()), asyncio.create_task(self._check_environment())]
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        for writer in self._writers.values():
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()
        if not self._status:
            self._batcher.stop()
        return self._status

    def _end(self, status: int) -> None:
        self._status = self._status or status
        self._stop.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = next(self._numbers)
        self._writers[connection] = writer
        writer.write(protocol.pack({"op": "hello", "hello": asdict(self._hello)}))
        writer.write(protocol.pack(self._describe()))
        try:
            while True:
                self._take(connection, writer, await protocol.receive(reader))
        except EOFError:
            pass
        finally:
            del self._writers[connection]
            self._batcher.cancel(lambda key: key[0] == connection)
            writer.close()

    def _take(self, connection: int, writer: asyncio.StreamWriter, message: Message) -> None:
        number = int(message["id"])
        match message["op"]:
            case "submit":
                jobs = [protocol.job_from_wire(wire) for wire in message["jobs"]]
                answer: Message = {"op": "accepted", "id": number}
                try:
                    self._batcher.submit((connection, number), jobs)
                except EngineBusy as busy:
                    answer = {"op": "busy", "id": number, "retry_after": busy.retry_after}
                writer.write(protocol.pack(answer))
            case "cancel":
                wanted = (connection, number, int(message["index"]))
                self._batcher.cancel(lambda key: key == wanted)
            case "probe":
                loop = asyncio.get_running_loop()
                frame = protocol.pack({"op": "passed", "id": number})
                self._batcher.probe(lambda: _later(loop, self._write, connection, frame))

    def _deliver(self, steps: list[tuple[Key, Step]]) -> None:
        grouped: dict[int, list[list[Any]]] = defaultdict(list)
        for (connection, number, index), step in steps:
            grouped[connection].append([number, index, protocol.step_to_wire(step)])
        for connection, wires in grouped.items():
            self._write(connection, protocol.pack({"op": "steps", "steps": wires}))

    def _write(self, connection: int, frame: bytes) -> None:
        writer = self._writers.get(connection)
        if writer is None or writer.is_closing():
            return
        if writer.transport.get_write_buffer_size() > _LAGGING_BYTES:
            _log.error("a worker does not read its answers; disconnecting it", extra={"connection": connection})
            writer.transport.abort()
            return
        writer.write(frame)

    def _describe(self) -> Message:
        age = max(0.0, time.monotonic() - self._batcher.last_pass)
        return {"op": "status", "last_pass": age, "environment": self._environment}

    async def _report(self) -> None:
        """Send signs of life, and end the process when a forward pass takes too long."""
        while True:
            frame = protocol.pack(self._describe())
            for connection in list(self._writers):
                self._write(connection, frame)
            try:
                os.write(self._pulse, b".")
            except BlockingIOError:
                pass  # the supervisor is late with reading, which it will find out itself
            except OSError:
                _log.error("the supervisor is gone")
                self._end(1)
            began = self._batcher.pass_began
            if began is not None and time.monotonic() - began > self._settings.step_timeout:
                _log.critical("a forward pass hangs", extra={"seconds": round(time.monotonic() - began, 1)})
                # The hung thread cannot be stopped. What was written to the sockets has left this process already.
                os._exit(HUNG)
            await asyncio.sleep(protocol.STATUS_SECONDS)

    async def _check_environment(self) -> None:
        """Import every locked package, in a process of its own that takes no time from the model."""
        metrics.environment_ok.labels(self._hello.model).set(self._environment == "ok")
        if self._environment != "ok":
            _log.error("the environment differs from its lock", extra={"problem": self._environment})
            return
        if self._settings.lock_file is None or self._settings.environment_check != "imports":
            return
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "token_service.environment", "--imports", str(self._settings.lock_file)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=_be_nice,
            env={name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"},
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode:
            lines = output.decode(errors="replace").strip().splitlines()
            self._environment = lines[0][:300] if lines else f"the check ended with status {process.returncode}"
            metrics.environment_ok.labels(self._hello.model).set(0)
            _log.error("a locked package cannot be imported", extra={"problem": self._environment})


def _be_nice() -> None:
    os.nice(19)
