"""One sequence between submission and its last token."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from token_service.engine.sampler import Draw, report
from token_service.protocol import FinishReason, Job, Step, Token

if TYPE_CHECKING:
    import torch

    from token_service.engine.slots import Slot

Key = tuple[int, int, int]
"""Connection, request, index within the request."""


@dataclass
class Sequence:
    """A job and how far it has come.

    Attributes:
        key: Whose it is.
        job: What was asked for.
        eos: Token ids that end it.
        tokens: Prompt and generated token ids.
        computed: So many of them have their keys and values in the slot.
        slot: None while it waits.
        cached: Prompt tokens taken from the prefix cache.
        submitted: `time.monotonic()`.
        ended: Its last step was made.
    """

    key: Key
    job: Job
    eos: frozenset[int]
    tokens: list[int] = field(init=False)
    computed: int = 0
    slot: Slot | None = None
    cached: int = 0
    submitted: float = field(default_factory=time.monotonic)
    ended: bool = False

    def __post_init__(self) -> None:
        self.tokens = list(self.job.prompt)
        self.draw = Draw(self.job.sampling, self.job.prompt, self.job.logprobs)
        self._prompt: list[Token] = []
        self._begun = False

    @property
    def place(self) -> Slot:
        """The slot it sits in."""
        if self.slot is None:
            raise RuntimeError("the sequence waits")
        return self.slot

    @property
    def number(self) -> int:
        """Number of its slot."""
        return self.place.number

    @property
    def left(self) -> int:
        """Tokens not computed yet; 1 while decoding."""
        return len(self.tokens) - self.computed

    @property
    def decoding(self) -> bool:
        """Whether its prompt is done: what follows is one token a pass."""
        return self._begun

    def wanted_rows(self, begin: int, size: int) -> range:
        """Return the rows whose logits are needed, when the next `size` tokens stand from row `begin` on."""
        if self.job.prompt_logprobs and not self._begun:
            return range(begin, begin + size)
        return range(begin + size - (size == self.left), begin + size)

    def note_prompt(self, logits: torch.Tensor) -> None:
        """Keep the log probabilities of the tokens behind those just computed.

        Args:
            logits: Shape (tokens just computed, vocabulary).
        """
        following = self.job.prompt[self.computed + 1 : self.computed + 1 + len(logits)]
        for row, token in enumerate(following):
            self._prompt.append(report(logits[row], token, self.job.logprobs or 0))

    def add(self, token: Token) -> Step:
        """Append a generated token; return what to tell about it."""
        self.tokens.append(token.id)
        return self._step((token,), self._finish(token.id))

    def end(self) -> Step:
        """Return the only step of a job that generates nothing."""
        return self._step((), "length")

    def fail(self) -> Step:
        """Return the step that gives the sequence up."""
        return self._step((), "error")

    def _step(self, tokens: tuple[Token, ...], finish: FinishReason | None) -> Step:
        first, self._begun = not self._begun, True
        self.ended = finish is not None
        if not first:
            return Step(tokens, finish)
        start = (Token(self.job.prompt[0]), *self._prompt) if self.job.prompt_logprobs else ()
        return Step(tokens, finish, self.cached, start)

    def _finish(self, token: int) -> FinishReason | None:
        if token in self.eos:
            return "stop"
        return "length" if len(self.tokens) - len(self.job.prompt) >= self.job.max_tokens else None
