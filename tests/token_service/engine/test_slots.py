"""Sequences find a slot, and what an earlier prompt left in one."""

from __future__ import annotations

from token_service.engine.slots import Place, SlotTable

_PROMPT = tuple(range(100, 140))


def _take(table: SlotTable, prompt: tuple[int, ...]) -> Place:
    place = table.take(prompt)
    assert place is not None
    return place


def test_nothing_is_free_when_all_are_taken() -> None:
    """A table of two gives two slots, and the third after one was released."""
    table = SlotTable(2, 64, prefix_cache=True)
    first, _ = _take(table, (1, 2)), _take(table, (3, 4))
    assert table.take((5, 6)) is None
    table.release(first.slot)
    assert _take(table, (5, 6)).slot is first.slot


def test_shared_beginning_is_found_in_place() -> None:
    """The next turn of a conversation continues in the slot of the one before it."""
    table = SlotTable(4, 64, prefix_cache=True)
    first = _take(table, _PROMPT)
    table.fill(first.slot, _PROMPT)
    table.release(first.slot)
    second = _take(table, (*_PROMPT, 7, 8))
    assert (second.slot, second.source, second.cached) == (first.slot, None, len(_PROMPT))


def test_shared_beginning_of_a_busy_slot_is_copied() -> None:
    """The last token is never taken from the cache: its logits are needed."""
    table = SlotTable(4, 64, prefix_cache=True)
    first = _take(table, _PROMPT)
    table.fill(first.slot, _PROMPT)
    second = _take(table, _PROMPT)
    assert second.slot is not first.slot
    assert (second.source, second.cached) == (first.slot, len(_PROMPT) - 1)
    assert second.slot.tokens.tolist() == list(_PROMPT[:-1])


def test_prompt_waits_for_a_neighbour_that_computes_its_beginning() -> None:
    """Two equal prompts at once: the second is placed when the first is done, and computes one token."""
    table = SlotTable(4, 64, prefix_cache=True)
    first = _take(table, _PROMPT)
    assert table.take(_PROMPT) is None
    table.fill(first.slot, _PROMPT)
    assert _take(table, _PROMPT).cached == len(_PROMPT) - 1


def test_short_beginnings_and_a_switched_off_cache_are_ignored() -> None:
    """Seven shared tokens are not worth it; without a prefix cache nothing is."""
    table = SlotTable(4, 64, prefix_cache=True)
    table.fill(_take(table, _PROMPT).slot, _PROMPT)
    assert _take(table, (*_PROMPT[:7], 1, 2, 3)).cached == 0
    off = SlotTable(4, 64, prefix_cache=False)
    off.fill(_take(off, _PROMPT).slot, _PROMPT)
    assert _take(off, _PROMPT).cached == 0
    assert _take(table, _PROMPT).cached
    every = table.take(_PROMPT, reuse=False)
    assert every is not None
    assert every.cached == 0


def test_two_conversations_keep_their_slots() -> None:
    """An unrelated prompt takes the slot that was used longest ago, not the one just left."""
    table = SlotTable(16, 64, prefix_cache=True)
    other = tuple(range(300, 330))
    for prompt in (_PROMPT, other):
        place = _take(table, prompt)
        table.fill(place.slot, prompt)
        table.release(place.slot)
    assert _take(table, (*_PROMPT, 1)).cached == len(_PROMPT)
    assert _take(table, (*other, 1)).cached == len(other)


def test_slots_stay_together() -> None:
    """Few sequences sit in the first slots, however many there are: attention reads neighbours at once."""
    table = SlotTable(256, 64, prefix_cache=True)
    for turn in range(100):
        place = _take(table, (turn, turn + 1, turn + 2))
        assert place.slot.number <= 8
        table.release(place.slot)
