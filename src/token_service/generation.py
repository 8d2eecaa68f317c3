"""One request under way: the choices it generates, side by side, until all have ended or time is up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from token_service import metrics
from token_service.detokenizer import Detokenizer, Entry, Piece
from token_service.protocol import EngineFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from token_service.client import Stream
    from token_service.protocol import Step, Token
    from token_service.tokenizer import ModelTokenizer


class DeadlineExceeded(Exception):  # noqa: N818 - an answer, not a defect
    """The request took longer than the service allows; the text may be shown to clients."""


@dataclass
class Plan:
    """What is known of a choice before it starts.

    Attributes:
        stops: Strings that end the text.
        entries: Report tokens beside their text.
        echo: The prompt's text, when the answer begins with it.
        first_of_prompt: The first choice of its prompt; others do not count its tokens again.
    """

    stops: Sequence[str] = ()
    entries: bool = False
    echo: str | None = None
    first_of_prompt: bool = True


@dataclass
class Choice:
    """One sequence and its text so far.

    Attributes:
        index: Number of the choice in the answer.
        finish: Why it ended: `stop` or `length`; None while it goes on.
        tokens: Generated tokens so far, the end-of-sequence token included.
        cached: Prompt tokens that came from the prefix cache.
        text: Everything shown so far.
        entries: Its tokens, when they are reported.
    """

    index: int
    stream: Stream
    plan: Plan
    detokenizer: Detokenizer
    finish: str | None = None
    tokens: int = 0
    cached: int = 0
    text: str = ""
    entries: list[Entry] = field(default_factory=list)
    last_token: float = 0.0
    begun: bool = False

    def take(self, step: Step, tokenizer: ModelTokenizer) -> Piece:
        """Return what a step makes certain, the echoed prompt first."""
        piece = Piece()
        if not self.begun and self.plan.echo is not None:
            piece = Piece(self.plan.echo, _prompt_entries(tokenizer, step.prompt) if self.plan.entries else [])
        self.begun = True
        self.tokens += len(step.tokens)
        self.cached += step.cached
        # The token that ends a sequence has no text and is not reported: the reported ones spell the text.
        tokens = step.tokens[:-1] if step.finish == "stop" else step.tokens
        _extend(piece, self.detokenizer.feed(tokens))
        if step.finish and not self.detokenizer.stopped:
            _extend(piece, self.detokenizer.flush())
        self.finish = "stop" if self.detokenizer.stopped else step.finish
        if self.detokenizer.stopped:
            self.stream.cancel()
        self.text += piece.text
        self.entries += piece.entries
        return piece


def _extend(piece: Piece, more: Piece) -> None:
    piece.text += more.text
    piece.entries += more.entries


def _prompt_entries(tokenizer: ModelTokenizer, tokens: Sequence[Token]) -> list[Entry]:
    detokenizer = Detokenizer(tokenizer, (), (), entries=True)
    return detokenizer.feed(tokens).entries + detokenizer.flush().entries


class Generation:
    """The choices of one request.

    Args:
        tokenizer: The model's.
        streams: One per choice, in the order of their indices.
        plans: One per stream.
        arrived: When the request came, as `time.monotonic` counts.
        timeout: Seconds from then until the request is given up.
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        streams: Sequence[Stream],
        plans: Sequence[Plan],
        arrived: float,
        timeout: float,
    ) -> None:
        self._tokenizer = tokenizer
        self._arrived = arrived
        self._outcome: str | None = None
        self._closed = self._started = False
        self._model = tokenizer.model
        self._first_token = metrics.first_token.labels(self._model)
        self._inter_token = metrics.inter_token.labels(self._model)
        self._generated = metrics.generation_tokens.labels(self._model)
        self.choices = [
            Choice(
                index,
                stream,
                plan,
                Detokenizer(tokenizer, stream.job.prompt, plan.stops, entries=plan.entries, start=len(plan.echo or "")),
            )
            for index, (stream, plan) in enumerate(zip(streams, plans, strict=True))
        ]
        metrics.prompt_tokens.labels(self._model).inc(self.prompt_tokens)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, arrived + timeout - time.monotonic()), self._expire)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(len(choice.stream.job.prompt) for choice in self.choices if choice.plan.first_of_prompt)

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the prefix cache."""
        return sum(choice.cached for choice in self.choices if choice.plan.first_of_prompt)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated so far, of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def outcome(self) -> str:
        """How the request ended, in one word."""
        return self._outcome or ",".join(sorted({choice.finish or "abort" for choice in self.choices}))

    async def pieces(self) -> AsyncGenerator[tuple[Choice, Piece]]:
        """Yield what each step of any choice makes certain; the last one of a choice comes with its finish reason.

        Raises:
            EngineFailed: the engine died or gave a choice up.
            DeadlineExceeded: time is up.
        """
        try:
            if len(self.choices) == 1:
                async for step in self.choices[0].stream:
                    yield self._take(self.choices[0], step)
                    if self.choices[0].finish:
                        break
                return
            async with contextlib.aclosing(self._merged()) as steps:
                async for choice, step in steps:
                    if not choice.finish:
                        yield self._take(choice, step)
        except EngineFailed:
            self._outcome = self._outcome or "error"
            if self._outcome == "deadline":
                raise DeadlineExceeded("the request took longer than this service allows") from None
            raise

    async def run(self) -> None:
        """Generate everything; the result is in `choices`. Raises what `pieces` raises."""
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for _ in pieces:
                pass

    def close(self) -> None:
        """Free what is still held and count how the request ended; call it once, always."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        for choice in self.choices:
            if choice.finish is None:
                choice.stream.cancel()
            metrics.success.labels(self._model, choice.finish or self._outcome or "abort").inc()
        if self._outcome is None and any(choice.finish is None for choice in self.choices):
            metrics.cancelled.labels(self._model).inc()
        if all(choice.finish for choice in self.choices):
            metrics.end_to_end.labels(self._model).observe(time.monotonic() - self._arrived)

    async def _merged(self) -> AsyncGenerator[tuple[Choice, Step]]:
        queue: asyncio.Queue[tuple[Choice, Step] | EngineFailed] = asyncio.Queue()

        async def pump(choice: Choice) -> None:
            try:
                async for step in choice.stream:
                    queue.put_nowait((choice, step))
            except EngineFailed as error:
                queue.put_nowait(error)

        pumps = [asyncio.create_task(pump(choice)) for choice in self.choices]
        try:
            while any(choice.finish is None for choice in self.choices):
                item = await queue.get()
                if isinstance(item, EngineFailed):
                    raise item
                yield item
        finally:
            for task in pumps:
                task.cancel()

    def _take(self, choice: Choice, step: Step) -> tuple[Choice, Piece]:
        now = time.monotonic()
        if step.tokens:
            self._generated.inc(len(step.tokens))
            if not self._started:
                self._started = True
                self._first_token.observe(now - self._arrived)
            if choice.tokens:
                for _ in step.tokens:
                    self._inter_token.observe((now - choice.last_token) / len(step.tokens))
            choice.last_token = now
        return choice, choice.take(step, self._tokenizer)

    def _expire(self) -> None:
        """Stop the engine's work, then wake whoever waits for it."""
        self._outcome = "deadline"
        for choice in self.choices:
            if choice.finish is None:
                choice.stream.cancel()
                choice.stream.put(None)
