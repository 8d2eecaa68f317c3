"""One sequence being generated: its key-value cache, sampler and detokeniser."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch

from token_service.detokenizer import Detokenizer
from token_service.sampling import Sampler, SamplingParameters

if TYPE_CHECKING:
    from token_service.model import Model

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Job:
    """What to generate.

    Attributes:
        prompt: Token ids, at least one.
        max_tokens: Upper bound of generated tokens, at least one.
        sampling: How to choose tokens.
        stops: Strings that end the text and are not shown.
        probe: A health check: jumps the queue and is not counted.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParameters = field(default_factory=lambda: SamplingParameters(temperature=0))
    stops: tuple[str, ...] = ()
    probe: bool = False


@dataclass(frozen=True)
class Piece:
    """Text made certain by one step.

    Attributes:
        text: May be empty.
        tokens: Generated tokens so far, the end-of-sequence token included.
        finish: Why the sequence ended, None while it goes on.
    """

    text: str
    tokens: int
    finish: FinishReason | None = None


class Sequence:
    """The state of one job between two steps."""

    def __init__(self, model: Model, job: Job) -> None:
        self._model = model
        self._job = job
        self._next_input: tuple[int, ...] = job.prompt
        self._cache: Any = None
        self._sampler = Sampler(job.sampling)
        self._detokenizer = Detokenizer(model.core, job.prompt, job.stops)
        self._tokens = 0
        self.last_token_at = 0.0
        """`time.monotonic()` of the last token, 0 before the first."""

    def step(self) -> Piece:
        """Run one forward pass over the tokens not seen yet and append one token."""
        network = self._model.network
        ids = torch.tensor([self._next_input], device=network.device)
        with torch.inference_mode():
            output = network(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
            token = self._sampler.choose(output.logits[0, -1])
        self._cache = output.past_key_values
        self._next_input = (token,)
        self._tokens += 1
        self.last_token_at = time.monotonic()
        return self._piece(token)

    def _piece(self, token: int) -> Piece:
        if token in self._model.eos:
            return Piece(self._detokenizer.flush(), self._tokens, "stop")
        text = self._detokenizer.feed(token)
        if self._detokenizer.stopped:
            return Piece(text, self._tokens, "stop")
        if self._tokens >= self._job.max_tokens:
            return Piece(text + self._detokenizer.flush(), self._tokens, "length")
        return Piece(text, self._tokens)
