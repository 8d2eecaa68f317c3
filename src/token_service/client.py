"""A worker's side of one engine: submit jobs, read their steps, know whether the engine lives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from typing import TYPE_CHECKING

from token_service import protocol
from token_service.protocol import EngineBusy, EngineFailed, Hello, Job, Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)
_RECONNECT_SECONDS = 0.05
_ARRIVAL_SECONDS = 1.0
_SILENCE_SECONDS = 4 * protocol.STATUS_SECONDS


class Stream:
    """The steps of one sequence."""

    def __init__(self, client: EngineClient, request: int, index: int, job: Job) -> None:
        self.job = job
        self._client = client
        self._key = (request, index)
        self._steps: asyncio.Queue[Step | None] = asyncio.Queue()
        self._ended = False

    async def __aiter__(self) -> AsyncIterator[Step]:
        """Yield steps up to the one with a finish reason.

        Raises:
            EngineFailed: the engine died, or gave this sequence up.
        """
        while True:
            step = await self._steps.get()
            if step is None or step.finish == "error":
                raise EngineFailed("the engine failed while generating")
            yield step
            if step.finish:
                return

    def cancel(self) -> None:
        """Free the sequence's place; harmless once it has ended."""
        if not self._ended:
            self._client.cancel(self._key)

    def put(self, step: Step | None) -> None:
        """Deliver a step; None tells that the engine is gone."""
        self._ended = self._ended or step is None or step.finish is not None
        self._steps.put_nowait(step)


class EngineClient:
    """Keeps one connection to one engine, from the worker's event loop."""

    def __init__(self, model: str, socket: Path) -> None:
        self.model = model
        self.hello: Hello | None = None
        """What the engine said of itself; None until it has loaded its model."""
        self.environment = "ok"
        """`ok`, or how the environment differs from its lock."""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._streams: dict[tuple[int, int], Stream] = {}
        self._answers: dict[int, asyncio.Future[protocol.Message]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._heard = time.monotonic()
        self._last_pass = float("-inf")
        self._lost = False
        self._greeted = asyncio.Event()

    def start(self) -> None:
        """Connect in the background, and again after a loss."""
        self._task = asyncio.get_running_loop().create_task(self._stay_connected())

    async def stop(self) -> None:
        """End the connection; the engine cancels what is left."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def alive(self) -> bool:
        """False once the engine was lost or has been silent for 2 s; True while it still loads its model."""
        if self.hello is None:
            return not self._lost
        return time.monotonic() - self._heard < _SILENCE_SECONDS

    @property
    def connected(self) -> bool:
        """Whether jobs can be submitted."""
        return self.hello is not None and self._writer is not None

    async def arrive(self) -> None:
        """Wait a moment for an engine that has not greeted this worker yet.

        Workers connect within milliseconds of each other, but one of them is first to say that the service is ready.
        """
        if self.hello is None and not self._lost:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._greeted.wait(), _ARRIVAL_SECONDS)

    async def submit(self, jobs: Sequence[Job]) -> list[Stream]:
        """Queue jobs, all of them or none.

        Raises:
            EngineBusy: too few places are free for them.
            EngineFailed: the engine is not there.
        """
        number = next(self._numbers)
        streams = [Stream(self, number, index, job) for index, job in enumerate(jobs)]
        for index, stream in enumerate(streams):  # before the question: steps may come with the answer
            self._streams[number, index] = stream
        try:
            answer = await self._ask(number, {"op": "submit", "jobs": [protocol.job_to_wire(job) for job in jobs]})
        except BaseException:  # a caller that was cancelled while it waited must not leave its sequences running
            for index in range(len(jobs)):
                self.cancel((number, index))
            raise
        if answer["op"] == "busy":
            for index in range(len(jobs)):
                self._streams.pop((number, index), None)
            raise EngineBusy(max(1, int(answer["retry_after"])))
        return streams

    async def probe(self, max_age: float) -> bool:
        """Tell whether a forward pass ended within the last `max_age` seconds, asking for one if need be."""
        if not self.connected or not self.alive:
            return False
        if time.monotonic() - self._last_pass <= max_age:
            return True
        try:
            async with asyncio.timeout(max(1.0, max_age)):
                await self._ask(next(self._numbers), {"op": "probe"})
        except (TimeoutError, EngineFailed):
            return False
        return True

    def cancel(self, key: tuple[int, int]) -> None:
        """Forget a sequence and tell the engine."""
        self._streams.pop(key, None)
        self._send({"op": "cancel", "id": key[0], "index": key[1]})

    def _send(self, message: protocol.Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(protocol.pack(message))

    async def _ask(self, number: int, message: protocol.Message) -> protocol.Message:
        if not self.connected:
            raise EngineFailed(f"the engine of model {self.model} is not ready")
        answer: asyncio.Future[protocol.Message] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._send(message | {"id": number})
            return await answer
        finally:
            self._answers.pop(number, None)

    async def _stay_connected(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
            except OSError:
                await asyncio.sleep(_RECONNECT_SECONDS)  # the engine is still importing, or the supervisor replaces it
                continue
            self._writer = writer
            try:
                while True:
                    self._take(await protocol.receive(reader))
            except EOFError:
                _log.error("lost the engine", extra={"model": self.model})
            finally:
                self._lose()
                writer.close()

    def _take(self, message: protocol.Message) -> None:
        self._heard = time.monotonic()
        match message["op"]:
            case "hello":
                self.hello = Hello(**message["hello"])
                self._greeted.set()
                self._lost = False
            case "steps":
                for number, index, wire in message["steps"]:
                    self._deliver((number, index), protocol.step_from_wire(wire))
                self._last_pass = self._heard
            case "status":
                self.environment = message["environment"]
                self._last_pass = max(self._last_pass, self._heard - message["last_pass"])
            case _:
                answer = self._answers.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result(message)

    def _deliver(self, key: tuple[int, int], step: Step) -> None:
        stream = self._streams.get(key)
        if stream is None:
            return
        if step.finish:
            del self._streams[key]
        stream.put(step)

    def _lose(self) -> None:
        self.hello, self._writer, self._lost = None, None, True
        for stream in self._streams.values():
            stream.put(None)
        self._streams.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EngineFailed("the engine failed"))
