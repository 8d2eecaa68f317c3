"""The engine: one thread that owns the model and advances every running sequence by one token in turn.

The event loop sees `submit`, an async `Stream` of pieces, `probe` and `alive`; nothing else of the model. A batching
engine in a process of its own can take this place without a change to the routes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from token_service import metrics
from token_service.sequence import Job, Piece, Sequence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from token_service.model import Model

_log = logging.getLogger(__name__)


class EngineBusy(Exception):  # noqa: N818 - a state, not a defect
    """All slots and waiting places are taken."""


class EngineFailed(Exception):  # noqa: N818 - read as "the engine failed"
    """The engine could not finish this sequence."""


class Stream:
    """Pieces of one sequence, delivered to the event loop that submitted it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.admitted = time.monotonic()
        self.cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Piece | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield pieces up to the one with a finish reason.

        Raises:
            EngineFailed: the engine gave this sequence up.
        """
        while True:
            piece = await self._queue.get()
            if piece is None:
                raise EngineFailed("the engine failed while generating")
            yield piece
            if piece.finish:
                return

    def cancel(self) -> None:
        """Stop generating; harmless once the sequence has ended."""
        self.cancelled.set()

    def put(self, piece: Piece | None) -> None:
        """Hand a piece over from the engine thread; None tells of a failure."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, piece)


class Engine:
    """Runs sequences on one model."""

    def __init__(self, model: Model, max_running: int, max_waiting: int) -> None:
        self._model = model
        self._max_running = max_running
        self._places = max_running + max_waiting
        self._change = threading.Condition()
        self._waiting: deque[Stream] = deque()
        self._running: list[tuple[Stream, Sequence]] = []
        self._stopping = False
        self._last_step = float("-inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, in the process that will use it: a `Thread` made before a fork counts as ended after it."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up what is running and end the thread."""
        with self._change:
            self._stopping = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join(timeout=10)

    @property
    def alive(self) -> bool:
        """Whether the engine can still take work."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping

    def submit(self, job: Job) -> Stream:
        """Queue a job; call it on the event loop.

        Raises:
            EngineBusy: no slot and no waiting place is free.
            EngineFailed: the engine thread is gone.
        """
        stream = Stream(job)
        with self._change:
            if not self.alive:
                raise EngineFailed("the engine is not running")
            # A vanished client's stream keeps its place only until the thread's next turn: do not count it.
            taken = [s for s in (*self._waiting, *(s for s, _ in self._running)) if not s.cancelled.is_set()]
            if len(taken) >= self._places and not job.probe:
                raise EngineBusy
            if job.probe:
                self._waiting.appendleft(stream)
            else:
                self._waiting.append(stream)
            self._change.notify()
        return stream

    async def probe(self, max_age: float) -> bool:
        """Tell whether a forward pass succeeded within the last `max_age` seconds, making one if need be."""
        if not self.alive:
            return False
        if time.monotonic() - self._last_step <= max_age:
            return True
        try:
            stream = self.submit(Job(prompt=(min(self._model.eos, default=0),), max_tokens=1, probe=True))
            async with asyncio.timeout(max(max_age, 1)):
                async for _ in stream:
                    pass
        except (TimeoutError, EngineFailed):
            return False
        return True

    def _run(self) -> None:
        try:
            while self._admit():
                for entry in list(self._running):
                    self._advance(*entry)
        except BaseException:
            _log.exception("the engine thread died")
            raise
        finally:
            with self._change:
                self._stopping = True
                left = [*self._waiting, *(stream for stream, _ in self._running)]
                self._waiting.clear()
                self._running.clear()
            for stream in left:
                stream.put(None)

    def _admit(self) -> bool:
        """Wait for work and fill free slots; return False when the engine stops."""
        with self._change:
            self._change.wait_for(lambda: self._stopping or self._waiting or self._running)
            while self._waiting and (len(self._running) < self._max_running or self._waiting[0].job.probe):
                stream = self._waiting.popleft()
                if not stream.cancelled.is_set():
                    self._running.append((stream, Sequence(self._model, stream.job)))
                    if not stream.job.probe:
                        metrics.prompt_tokens.inc(len(stream.job.prompt))
                        metrics.queue_time.observe(time.monotonic() - stream.admitted)
            self._count()
            return not self._stopping

    def _count(self) -> None:
        metrics.running.set(sum(not stream.job.probe for stream, _ in self._running))
        metrics.waiting.set(sum(not stream.job.probe for stream in self._waiting))

    def _advance(self, stream: Stream, sequence: Sequence) -> None:
        """Generate one token of one sequence and deliver the text it makes certain."""
        if stream.cancelled.is_set():
            self._leave(stream, sequence, "abort")
            return
        before = sequence.last_token_at
        try:
            piece = sequence.step()
        except Exception:  # noqa: BLE001 - one broken sequence must not take its neighbours along
            _log.exception("a sequence failed", extra={"prompt_tokens": len(stream.job.prompt)})
            self._leave(stream, sequence, "error")
            stream.put(None)
            return
        now = self._last_step = sequence.last_token_at
        if not stream.job.probe:
            metrics.generation_tokens.inc()
            if before:
                metrics.inter_token.observe(now - before)
            else:
                metrics.first_token.observe(now - stream.admitted)
        if piece.finish:
            self._leave(stream, sequence, piece.finish)
        if piece.text or piece.finish:
            stream.put(piece)

    def _leave(self, stream: Stream, sequence: Sequence, reason: str) -> None:
        with self._change:
            self._running.remove((stream, sequence))
            self._count()
        if not stream.job.probe:
            metrics.success.labels(reason).inc()
            metrics.end_to_end.observe(time.monotonic() - stream.admitted)
