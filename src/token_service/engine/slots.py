"""Which sequence sits in which key-value slot, and which beginnings of prompts are cached there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SPARE = 8
"""Free slots beyond the running ones that keep old prompts: few, because attention wants sequences side by side."""

_SHORTEST = 8
"""Shared tokens from which looking after the cache pays."""

_WORTH_WAITING = 32
"""Tokens that must be saved for a prompt to wait until a neighbour has computed the beginning that both share."""

_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass
class Slot:
    """One row of the key-value cache.

    Attributes:
        number: Its index in the cache.
        buffer: Room for token ids, of shape (context,).
        size: So many of them have their keys and values in the cache.
        busy: A sequence sits in it.
        planned: Token ids it will hold once its sequence's prompt is processed.
        used: Counter of the last use; the smallest is the oldest.
    """

    number: int
    buffer: NDArray[np.int64]
    size: int = 0
    busy: bool = False
    planned: NDArray[np.int64] = field(default_factory=lambda: _NOTHING)
    used: int = 0

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Token ids whose keys and values the slot holds."""
        return self.buffer[: self.size]


@dataclass(frozen=True)
class Place:
    """Where a sequence goes.

    Attributes:
        slot: The slot, marked busy.
        source: Slot to copy the shared beginning from; None when it is in place.
        cached: Tokens of the prompt that are or will be there.
    """

    slot: Slot
    source: Slot | None
    cached: int


class SlotTable:
    """All slots of one engine."""

    def __init__(self, count: int, context: int, *, prefix_cache: bool) -> None:
        self._slots = [Slot(number, np.empty(context, dtype=np.int64)) for number in range(count)]
        self._prefix_cache = prefix_cache
        self._clock = 0

    @property
    def free(self) -> int:
        """Slots without a sequence."""
        return sum(not slot.busy for slot in self._slots)

    def take(self, prompt: Sequence[int], *, reuse: bool = True) -> Place | None:
        """Reserve a slot for a prompt.

        Args:
            prompt: Token ids; the last one is always computed, because its logits are needed.
            reuse: False when every prompt token must be computed.

        Returns:
            None when no slot is free, or when another sequence is just computing a longer shared beginning.
        """
        ids = np.asarray(prompt, dtype=np.int64)
        source, cached = self._longest(ids[:-1]) if self._prefix_cache and reuse else (None, 0)
        slot = self._choose(source)
        if slot is None or (reuse and self._better_soon(ids[:-1], cached)):
            return None
        self._clock += 1
        slot.busy, slot.used, slot.planned = True, self._clock, ids
        if source is not None:
            source.used = self._clock
        slot.buffer[:cached], slot.size = ids[:cached], cached
        return Place(slot, None if source is slot or not cached else source, cached)

    def fill(self, slot: Slot, tokens: Sequence[int]) -> None:
        """Note that `tokens` have been computed behind what the slot holds."""
        slot.buffer[slot.size : slot.size + len(tokens)] = tokens
        slot.size += len(tokens)

    def release(self, slot: Slot) -> None:
        """Free a slot; what it holds stays until another sequence takes it."""
        self._clock += 1
        slot.busy, slot.used, slot.planned = False, self._clock, _NOTHING

    def spoil(self, slot: Slot) -> None:
        """Note that a slot holds nothing worth sharing."""
        slot.size, slot.planned = 0, _NOTHING

    def forget(self) -> None:
        """Drop everything that is cached in free slots."""
        for slot in self._slots:
            if not slot.busy:
                slot.size = 0

    def _longest(self, ids: NDArray[np.int64]) -> tuple[Slot | None, int]:
        shared = [(_shared(ids, slot.tokens), not slot.busy, -slot.number) for slot in self._slots]
        best = max(shared)
        return (None, 0) if best[0] < _SHORTEST else (self._slots[-best[2]], best[0])

    def _better_soon(self, ids: NDArray[np.int64], cached: int) -> bool:
        if not self._prefix_cache:
            return False
        coming = (slot for slot in self._slots if slot.busy and slot.size < len(slot.planned))
        return any(_shared(ids, slot.planned) >= cached + _WORTH_WAITING for slot in coming)

    def _choose(self, source: Slot | None) -> Slot | None:
        busy = len(self._slots) - self.free
        window = [slot for slot in self._slots[: busy + 1 + _SPARE] if not slot.busy]
        if not window:
            return None
        if source in window:
            return source
        return min(window, key=lambda slot: (slot.used, slot.number))


def _shared(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """Return how many tokens two sequences have in common at their beginning."""
    size = min(len(first), len(second))
    different = np.flatnonzero(first[:size] != second[:size])
    return int(different[0]) if len(different) else size
