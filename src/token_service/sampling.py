"""Choosing the next token from logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

_NO_IDS = cast("torch.LongTensor", torch.empty((1, 0), dtype=torch.long))


@dataclass(frozen=True)
class SamplingParameters:
    """How to sample.

    Attributes:
        temperature: 0 takes the most likely token, whatever the other values say.
        top_p: Smallest set of tokens with this probability mass; 1 is off.
        top_k: This many most likely tokens; 0 or less is off.
        seed: Makes the draw repeatable; None draws from the system's entropy.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


class Sampler:
    """Draws tokens for one sequence; owns its random generator, so that neighbours cannot disturb a seed."""

    def __init__(self, parameters: SamplingParameters) -> None:
        self._greedy = parameters.temperature == 0
        self._generator = torch.Generator()
        if parameters.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(parameters.seed)
        self._warpers = LogitsProcessorList()
        if not self._greedy and parameters.temperature != 1:
            self._warpers.append(TemperatureLogitsWarper(max(parameters.temperature, 1e-4)))
        if parameters.top_k > 0:
            self._warpers.append(TopKLogitsWarper(parameters.top_k))
        if parameters.top_p < 1:
            self._warpers.append(TopPLogitsWarper(parameters.top_p))

    def choose(self, logits: torch.Tensor) -> int:
        """Return a token id.

        Args:
            logits: Unnormalised scores of shape (vocabulary,), any device and float type.
        """
        if self._greedy:
            return int(logits.argmax())
        scores = self._warpers(_NO_IDS, logits.float().cpu().unsqueeze(0))
        return int(torch.multinomial(scores.softmax(-1)[0], 1, generator=self._generator))
