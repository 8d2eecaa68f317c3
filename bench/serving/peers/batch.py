"""One call of `generate()` for one or several tickets, streaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.serving.peers.desk import Desk, Ticket


class _Streamer:
    """Gives `generate()`'s tokens to the tickets; its first value is the prompts."""

    def __init__(self, counter: Desk, tickets: Sequence[Ticket]) -> None:
        self._counter = counter
        self._tickets = tickets
        self._prompts = True

    def put(self, value: torch.Tensor) -> None:
        if self._prompts:
            self._prompts = False
            return
        pairs = zip(self._tickets, value.reshape(-1).tolist(), strict=True)
        self._counter.deliver([(t, token) for t, token in pairs if t.sent < t.job.max_tokens and not t.cancelled])

    def end(self) -> None:
        """Nothing is held back."""


class _Nobody(StoppingCriteria):
    """Ends the batch when nobody waits for it."""

    def __init__(self, tickets: Sequence[Ticket]) -> None:
        self._tickets = tickets

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: ANN401, ARG002
        gone = all(ticket.cancelled for ticket in self._tickets)
        return torch.full((input_ids.shape[0],), gone)


@torch.inference_mode()
def run_batch(counter: Desk, tickets: Sequence[Ticket]) -> None:
    """Generate greedily for `tickets` with the desk's model, padded on the left to the longest prompt."""
    longest = max(len(ticket.job.prompt) for ticket in tickets)
    ids = torch.zeros((len(tickets), longest), dtype=torch.long)
    seen = torch.zeros_like(ids)
    for row, ticket in enumerate(tickets):
        ids[row, longest - len(ticket.job.prompt) :] = torch.tensor(ticket.job.prompt)
        seen[row, longest - len(ticket.job.prompt) :] = 1
    counter.model.generate(  # type: ignore[operator]
        ids,
        attention_mask=seen,
        do_sample=False,
        max_new_tokens=max(ticket.job.max_tokens for ticket in tickets),
        pad_token_id=0,
        streamer=_Streamer(counter, tickets),
        stopping_criteria=StoppingCriteriaList([_Nobody(tickets)]),
    )
