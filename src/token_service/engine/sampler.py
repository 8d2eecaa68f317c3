"""Choosing the next token of many sequences at once, each by its own rules and its own random numbers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from token_service.protocol import Sampling, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

_CANDIDATES = 256
"""Most likely tokens looked at before all are: sorting a whole vocabulary takes longer than a small model's pass."""

_COLDEST = 1e-4


class Draw:
    """The random numbers and the token counts of one sequence: neighbours cannot disturb a seed."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], logprobs: int | None = None) -> None:
        self.sampling = sampling
        self.logprobs = logprobs
        self.greedy = sampling.temperature == 0
        self.plain = self.greedy and logprobs is None and not self._changes(sampling)
        self._random = random.Random(sampling.seed)  # noqa: S311 - None takes the system's entropy
        self._counts: dict[int, int] = {}
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set()

    @staticmethod
    def _changes(sampling: Sampling) -> bool:
        penalties = sampling.presence_penalty or sampling.frequency_penalty or sampling.repetition_penalty != 1
        return bool(penalties or sampling.logit_bias)

    @property
    def changes(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        return self._changes(self.sampling)

    def uniform(self) -> float:
        """Return the next random number of this sequence, in [0, 1)."""
        return self._random.random()

    def count(self, token: int) -> None:
        """Remember a generated token for the penalties."""
        if self.sampling.presence_penalty or self.sampling.frequency_penalty:
            self._counts[token] = self._counts.get(token, 0) + 1
        if self.sampling.repetition_penalty != 1:
            self._seen.add(token)

    def change(self, logits: torch.Tensor) -> None:
        """Apply repetition, frequency and presence penalty and bias to one row of logits, shape (vocabulary,)."""
        rules = self.sampling
        if self._seen:
            ids = torch.tensor(sorted(self._seen), device=logits.device)
            row = logits[ids]
            logits[ids] = torch.where(row > 0, row / rules.repetition_penalty, row * rules.repetition_penalty)
        if self._counts:
            ids = torch.tensor(list(self._counts), device=logits.device)
            times = torch.tensor(list(self._counts.values()), device=logits.device, dtype=logits.dtype)
            logits[ids] -= rules.frequency_penalty * times + rules.presence_penalty
        if rules.logit_bias:
            ids = torch.tensor([token for token, _ in rules.logit_bias], device=logits.device)
            values = torch.tensor([value for _, value in rules.logit_bias], device=logits.device, dtype=logits.dtype)
            logits.index_add_(0, ids, values)


def choose(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Token]:
    """Return the next token of every sequence.

    Args:
        logits: Unnormalised scores, shape (sequences, vocabulary), any device and float type.
        draws: One per row.
    """
    if all(draw.plain for draw in draws):
        return [Token(token) for token in logits.argmax(-1).tolist()]
    scores = logits.float()
    changed = [row for row, draw in enumerate(draws) if draw.changes]
    if changed:
        scores = scores.clone()
        for row in changed:
            draws[row].change(scores[row])
    ids = scores.argmax(-1)
    drawn = [row for row, draw in enumerate(draws) if not draw.greedy]
    if drawn:
        ids[drawn] = _sample(scores[drawn] if len(drawn) < len(draws) else scores, [draws[row] for row in drawn])
    chosen = ids.tolist()
    for draw, token in zip(draws, chosen, strict=True):
        draw.count(token)
    return [
        Token(token) if draw.logprobs is None else report(logits[row], token, draw.logprobs)
        for row, (draw, token) in enumerate(zip(draws, chosen, strict=True))
    ]


def report(logits: torch.Tensor, token: int, count: int) -> Token:
    """Return `token` with its log probability and those of the `count` most likely ones.

    Args:
        logits: The model's own scores, shape (vocabulary,).
        token: Token id.
        count: May be 0.
    """
    row = logits.float()
    normal = row.logsumexp(-1)
    values, ids = row.topk(min(count, len(row)))
    top = tuple(zip(ids.tolist(), (values - normal).tolist(), strict=True))
    return Token(token, float(row[token] - normal), top)


def _sample(scores: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """Draw one token id per row: by inverse transform sampling, which takes one random number a token."""
    device = scores.device
    heat = torch.tensor([max(draw.sampling.temperature, _COLDEST) for draw in draws], device=device)
    scores = scores / heat[:, None]
    luck = torch.tensor([draw.uniform() for draw in draws], device=device, dtype=torch.float64)
    filtered = [row for row, draw in enumerate(draws) if _filters(draw.sampling, scores.shape[1])]
    if not filtered:
        return _invert(scores.softmax(-1), luck)
    ids = torch.empty(len(draws), dtype=torch.long, device=device)
    free = [row for row in range(len(draws)) if row not in set(filtered)]
    if free:
        ids[free] = _invert(scores[free].softmax(-1), luck[free])
    size = max(_CANDIDATES, *(draws[row].sampling.top_k for row in filtered))
    while filtered:
        size = min(size, scores.shape[1])
        rules = [draws[row].sampling for row in filtered]
        found, sure = _filter(scores[filtered], luck[filtered], rules, size)
        ids[filtered] = found
        # Rows whose cut lies beyond the candidates are done again with all tokens.
        filtered = [row for row, ready in zip(filtered, sure, strict=True) if not ready]
        size = scores.shape[1]
    return ids


def _filters(rules: Sampling, vocabulary: int) -> bool:
    return 0 < rules.top_k < vocabulary or rules.top_p < 1 or rules.min_p > 0


def _filter(
    scores: torch.Tensor, luck: torch.Tensor, rules: Sequence[Sampling], size: int
) -> tuple[torch.Tensor, list[bool]]:
    """Draw among the `size` likeliest tokens; tell for each row whether its cut certainly lies among them."""
    device, dtype = scores.device, torch.float64
    whole = size == scores.shape[1]
    values, ids = scores.topk(size)
    shares = (values.double() - scores.double().logsumexp(-1, keepdim=True)).exp()
    limit = torch.tensor([rule.top_k if rule.top_k > 0 else size for rule in rules], device=device)[:, None]
    limited = torch.tensor([rule.top_k > 0 for rule in rules], device=device)[:, None]
    top_p, min_p = (
        torch.tensor([getattr(r, n) for r in rules], device=device, dtype=dtype)[:, None] for n in ("top_p", "min_p")
    )
    shares = shares.masked_fill(torch.arange(size, device=device)[None] >= limit, 0)
    shares = torch.where(limited, shares / shares.sum(-1, keepdim=True), shares)  # top_p counts among the top_k
    reached = shares.cumsum(-1)
    nucleus = (reached - shares < top_p) | (top_p >= 1)
    likely = shares >= min_p * shares[:, :1]
    kept = shares.masked_fill(~(nucleus & likely), 0)
    inside = limited | (top_p < 1) & (reached[:, -1:] >= top_p) | (min_p > 0) & ~likely[:, -1:]
    chosen = ids.gather(1, _invert(kept, luck)[:, None])[:, 0]
    return chosen, [True] * len(rules) if whole else inside[:, 0].tolist()


def _invert(shares: torch.Tensor, luck: torch.Tensor) -> torch.Tensor:
    """Return the index at which the running sum of every row of `shares` passes its random number."""
    sums = shares.cumsum(-1, dtype=torch.float64)
    found = torch.searchsorted(sums, (luck * sums[:, -1])[:, None], right=True)[:, 0]
    # A number that rounds to the whole sum must not fall behind the last token with a share.
    last = torch.searchsorted(sums, sums[:, -1:].contiguous())[:, 0]
    return torch.minimum(found, last).clamp_(max=shares.shape[1] - 1)
