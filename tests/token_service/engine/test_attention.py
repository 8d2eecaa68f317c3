"""Attention over slots equals attention over each sequence alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from token_service.engine.attention import SlotAttention
from token_service.engine.layout import Batch, Chunk, plan_runs

_HEADS, _SHARED, _SIZE, _SLOTS, _CONTEXT = 6, 2, 8, 12, 64
_CPU = torch.device("cpu")


def _expected(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int | None, cap: float | None
) -> torch.Tensor:
    """Attend the last rows of one sequence: (heads, rows, size) to (shared heads, tokens, size), the slow way."""
    key, value = (part.repeat_interleave(_HEADS // _SHARED, 0) for part in (key, value))
    scores = query @ key.transpose(1, 2) * _SIZE**-0.5
    scores = torch.tanh(scores / cap) * cap if cap else scores
    rows, tokens = query.shape[1], key.shape[1]
    row, column = torch.arange(tokens - rows, tokens)[:, None], torch.arange(tokens)[None]
    hidden = (column > row) | (column <= row - window) if window else column > row
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(("window", "cap"), [(None, None), (5, None), (None, 3.0)])
def test_batch_equals_each_sequence_alone(*, eager: bool, window: int | None, cap: float | None) -> None:
    """Decoding rows in slots with gaps and very different lengths, and chunks with and without a past."""
    torch.manual_seed(0)
    attention = SlotAttention(eager=eager)
    attention.shapes[0] = (torch.Size((_SHARED, _SIZE)),) * 2
    attention.allocate(_SLOTS, _CONTEXT, torch.float32, _CPU)
    assert not attention.keys[0].any()
    assert not attention.values[0].any()  # what a mask hides is multiplied by 0, and 0 times NaN is NaN
    attention.keys[0].normal_()
    attention.values[0].normal_()
    decoding = {0: 3, 1: 60, 2: 7, 5: 9, 11: 1}  # slot -> tokens before the new one
    chunks = [Chunk(slot=3, begin=5, size=6, past=0), Chunk(slot=7, begin=11, size=4, past=13), Chunk(4, 15, 1, 0)]
    slots = [*decoding, *(c.slot for c in chunks for _ in range(c.size))]
    positions = [*decoding.values(), *(c.past + i for c in chunks for i in range(c.size))]
    rows = len(slots)
    query, key, value = torch.randn(1, _HEADS, rows, _SIZE), *torch.randn(2, 1, _SHARED, rows, _SIZE)
    lengths = [past + 1 for past in decoding.values()]
    runs = plan_runs(list(decoding), lengths, _CPU)
    attention.batch = Batch(torch.tensor(slots), torch.tensor(positions), len(decoding), runs, chunks)
    module = SimpleNamespace(layer_idx=0)
    out, _ = attention._forward(module, query, key, value, None, sliding_window=window, softcap=cap)  # type: ignore[arg-type]  # noqa: SLF001
    assert out.shape == (1, rows, _HEADS, _SIZE)
    parts = [Chunk(slot, row, 1, past) for row, (slot, past) in enumerate(decoding.items())] + chunks
    for part in parts:
        end = part.past + part.size
        expected = _expected(
            query[0, :, part.begin : part.begin + part.size],
            *(attention.keys[0][part.slot, :, :end], attention.values[0][part.slot, :, :end]),
            *(window, cap),
        )
        torch.testing.assert_close(out[0, part.begin : part.begin + part.size].transpose(0, 1), expected)


def test_runs_join_neighbours_and_part_what_differs() -> None:
    """Close slots of like lengths are one call; a lonely long one is not read into all others."""
    runs = plan_runs([0, 1, 2, 3], [100, 110, 90, 105], _CPU)
    assert [(run.first, run.count, run.longest) for run in runs] == [(0, 4, 110)]
    runs = plan_runs([0, 1, 2, 3], [20, 20, 20, 4000], _CPU)
    assert [(run.first, run.count) for run in runs] == [(0, 3), (3, 1)]
    runs = plan_runs([0, 200], [500, 500], _CPU)
    assert len(runs) == 2
    assert plan_runs([], [], _CPU) == []


def test_attention_sinks_are_refused() -> None:
    """What is not implemented must not be ignored."""
    attention = SlotAttention(eager=False)
    one = torch.zeros(1, 1, 1, 1)
    with pytest.raises(NotImplementedError):
        attention._forward(SimpleNamespace(layer_idx=0), one, one, one, None, s_aux=one)  # type: ignore[arg-type]  # noqa: SLF001
