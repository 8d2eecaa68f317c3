"""Which rows of a forward pass belong to which slots, and which slots are attended by one call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

_CALL_COST = {"cpu": 500, "cuda": 20_000}
"""What one more attention call costs, in cached tokens read (measured on a CPU: 0.13 ms against 0.2 µs a token)."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive prompt tokens of one sequence.

    Attributes:
        slot: Where its keys and values are.
        begin: First row in the batch.
        size: Rows.
        past: Tokens of the sequence that are in the slot already.
    """

    slot: int
    begin: int
    size: int
    past: int


@dataclass(frozen=True)
class Run:
    """Decoding sequences in neighbouring slots, attended by one call.

    Attributes:
        first: First slot.
        begin: First row in the batch.
        count: Slots, those without a decoding sequence included.
        rows: Batch row of each slot; a slot without one repeats a neighbour's, and its result is dropped.
        kept: Indices into `rows` that are real.
        longest: Tokens to read from each slot.
        lengths: Tokens in each slot, shape (count,).
    """

    first: int
    begin: int
    count: int
    rows: torch.Tensor
    kept: torch.Tensor
    longest: int
    lengths: torch.Tensor

    @property
    def dense(self) -> bool:
        """Whether every slot has a row, so that the rows are consecutive."""
        return len(self.kept) == self.count


@dataclass
class Batch:
    """Where the rows of one forward pass belong.

    Attributes:
        slots: Slot of every row, shape (rows,).
        positions: Position of every row in its sequence, shape (rows,).
        decoding: The first so many rows are single tokens, each of another sequence, in order of their slots.
        runs: How to attend them.
        chunks: The rows after them.
        masks: Masks made for this batch, shared by all layers.
    """

    slots: torch.Tensor
    positions: torch.Tensor
    decoding: int
    runs: Sequence[Run]
    chunks: Sequence[Chunk]
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)


def plan_runs(slots: Sequence[int], lengths: Sequence[int], device: torch.device) -> list[Run]:
    """Group decoding sequences into runs of neighbouring slots.

    A run reads the longest length from all its slots. So a slot joins the run before it when that costs less than a
    call of its own; this settles both how far apart slots may lie and how much their lengths may differ.

    Args:
        slots: Slot of every decoding sequence, ascending.
        lengths: Tokens in each, the new one included.
        device: Where the batch is computed.
    """
    call = _CALL_COST.get(device.type, _CALL_COST["cuda"])
    groups: list[list[int]] = []
    longest = 0
    for row, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
        if groups:
            first = slots[groups[-1][0]]
            apart = (slots[row - 1] - first + 1) * longest + length + call
            if (slot - first + 1) * max(longest, length) <= apart:
                groups[-1].append(row)
                longest = max(longest, length)
                continue
        groups.append([row])
        longest = length
    return [_run(group, slots, lengths, device) for group in groups]


def _run(group: Sequence[int], slots: Sequence[int], lengths: Sequence[int], device: torch.device) -> Run:
    first, count = slots[group[0]], slots[group[-1]] - slots[group[0]] + 1
    rows, sizes = [group[0]] * count, [1] * count
    kept = [slots[row] - first for row in group]
    for row, place in zip(group, kept, strict=True):
        rows[place], sizes[place] = row, lengths[row]
    as_tensor = [torch.tensor(values, device=device) for values in (rows, kept, sizes)]
    return Run(first, group[0], count, as_tensor[0], as_tensor[1], max(sizes), as_tensor[2])
