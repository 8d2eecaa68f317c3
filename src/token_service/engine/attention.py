"""Attention over key-value slots, registered with transformers as an attention implementation.

transformers hands every layer's queries, keys and values of one flat batch to the function registered here: first one
token of each decoding sequence, then the prompt chunks. The function stores keys and values in the sequences' slots and
attends slot by slot. Nothing is copied together for the batch: slots that lie side by side are one strided view.
"""

from __future__ import annotations

import itertools
import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

if TYPE_CHECKING:
    from token_service.engine.layout import Batch, Chunk, Run

_numbers = itertools.count()


@dataclass(frozen=True)
class _Call:
    """What one layer hands over for one pass; shapes as in `SlotAttention`."""

    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    scaling: float | None
    softcap: float | None
    window: int | None


@dataclass(frozen=True)
class _Seen:
    """What rows attend to: the first `longest` tokens of `slots`, less what `mask` or causality hides."""

    slots: slice
    longest: int
    mask: torch.Tensor | None = None
    causal: bool = False


class SlotAttention:
    """Keys and values of all layers, and attention over them.

    Attributes:
        name: Of the attention implementation, to load a network with.
        batch: Set before every forward pass. None: only note the layers' shapes.
        keys: Layer -> (slots, key-value heads, context, head size).
        values: The same for values.
    """

    def __init__(self, *, eager: bool) -> None:
        self._eager = eager
        self.batch: Batch | None = None
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.shapes: dict[int, tuple[torch.Size, torch.Size]] = {}
        self._item_size = 4
        self.name = f"slots-{next(_numbers)}"
        AttentionInterface.register(self.name, self._forward)
        AttentionMaskInterface.register(self.name, lambda *_args, **_kwargs: None)

    @property
    def bytes_per_token(self) -> int:
        """Memory of one cached token over all layers, known after a pass that noted the shapes."""
        return sum(k.numel() + v.numel() for k, v in self.shapes.values()) * self._item_size

    def allocate(self, slots: int, context: int, dtype: torch.dtype, device: torch.device) -> None:
        """Reserve the slots; on a CPU the system hands out pages only when they are first written."""
        for layer, (key, value) in self.shapes.items():
            self.keys[layer] = _zeros((slots, key[0], context, key[1]), dtype, device)
            self.values[layer] = _zeros((slots, value[0], context, value[1]), dtype, device)

    def clear(self, slot: int) -> None:
        """Forget a slot that may hold what is no number."""
        for cache in (self.keys, self.values):
            for layer in cache.values():
                layer[slot] = 0

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of one slot to another."""
        for cache in (self.keys, self.values):
            for layer in cache.values():
                layer[target, :, :tokens] = layer[source, :, :tokens]

    def _forward(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        _mask: torch.Tensor | None,
        scaling: float | None = None,
        **others: Any,  # noqa: ANN401 - whatever the architecture passes along
    ) -> tuple[torch.Tensor, None]:
        """Attend all rows of the batch.

        Args:
            module: The layer; its `layer_idx` names the cache.
            query: (1, heads, rows, head size).
            key: (1, key-value heads, rows, head size).
            value: As `key`.
            scaling: Factor of the scores; None takes the head size's.
            others: `sliding_window` and `softcap` are heeded, `s_aux` (attention sinks) is refused.

        Returns:
            (1, rows, heads, head size) and no weights.
        """
        if others.get("s_aux") is not None:
            raise NotImplementedError("attention sinks")
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        if self.batch is None:
            self.shapes[layer] = (key.shape[1::2], value.shape[1::2])
            self._item_size = key.element_size()
            return value.repeat_interleave(query.shape[1] // key.shape[1], 1).transpose(1, 2).contiguous(), None
        batch = self.batch
        call = _Call(
            *(query, self.keys[layer], self.values[layer], scaling), others.get("softcap"), others.get("sliding_window")
        )
        call.keys[batch.slots, :, batch.positions] = key[0].transpose(0, 1)
        call.values[batch.slots, :, batch.positions] = value[0].transpose(0, 1)
        result = query.new_empty((query.shape[2], query.shape[1], value.shape[3]))
        for run in batch.runs:
            if run.dense:
                result[run.begin : run.begin + run.count] = self._attend_run(call, run, batch)
            else:
                result[run.rows[run.kept]] = self._attend_run(call, run, batch)[run.kept]
        for chunk in batch.chunks:
            rows = slice(chunk.begin, chunk.begin + chunk.size)
            result[rows] = self._attend_chunk(call, chunk, batch)
        return result.unsqueeze(0), None

    def _attend_run(self, call: _Call, run: Run, batch: Batch) -> torch.Tensor:
        """Return (slots, heads, head size)."""
        shared = call.keys.shape[1]
        # The heads that share a key-value head stand where a query's rows would: one call reads each key once.
        rows = call.query[0].transpose(0, 1)
        rows = rows[run.begin : run.begin + run.count] if run.dense else rows[run.rows]
        rows = rows.reshape(run.count, shared, -1, rows.shape[2])
        mask = None if run.count == 1 and not call.window else _run_mask(run, call.window, batch)
        seen = _Seen(slice(run.first, run.first + run.count), run.longest, mask)
        return self._attend(call, rows, seen).flatten(1, 2)

    def _attend_chunk(self, call: _Call, chunk: Chunk, batch: Batch) -> torch.Tensor:
        """Return (rows, heads, head size)."""
        rows = call.query[:, :, chunk.begin : chunk.begin + chunk.size]
        mask = _chunk_mask(chunk, call.window, batch)
        causal = mask is None and chunk.size > 1
        seen = _Seen(slice(chunk.slot, chunk.slot + 1), chunk.past + chunk.size, mask, causal)
        out = self._attend(call, rows, seen)
        return out[0].transpose(0, 1)

    def _attend(self, call: _Call, query: torch.Tensor, seen: _Seen) -> torch.Tensor:
        """Attend `query`, shape (slots, heads, rows, head size), to what it may see."""
        key, value = call.keys[seen.slots, :, : seen.longest], call.values[seen.slots, :, : seen.longest]
        mask = seen.mask
        grouped = query.shape[1] != key.shape[1]
        if not self._eager and not call.softcap:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=seen.causal, scale=call.scaling, enable_gqa=grouped
            )
        if grouped:
            key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], 1) for part in (key, value))
        scores = query.float() @ key.float().transpose(2, 3) * (call.scaling or query.shape[3] ** -0.5)
        if call.softcap:
            scores = torch.tanh(scores / call.softcap) * call.softcap
        if seen.causal:
            mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return (scores.softmax(-1) @ value.float()).to(query.dtype)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return zeros; never `torch.empty`, because a hidden token counts 0 times its value, and 0 times NaN is NaN."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Pages of the system's own: zero, and there only once they are touched. Small ones: a huge page would make the
    # first token in a slot pay for a thousand others, in time (2 MB to clear for every layer) and in memory.
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


def _run_mask(run: Run, window: int | None, batch: Batch) -> torch.Tensor:
    """Return which tokens of each slot are seen, shape (slots, 1, 1, longest)."""
    name = ("run", run.first, window)
    if name not in batch.masks:
        position = torch.arange(run.longest, device=run.lengths.device)[None]
        seen = position < run.lengths[:, None]
        if window:
            seen &= position >= run.lengths[:, None] - window
        batch.masks[name] = seen[:, None, None]
    return batch.masks[name]


def _chunk_mask(chunk: Chunk, window: int | None, batch: Batch) -> torch.Tensor | None:
    """Return which tokens each row of the chunk sees, shape (rows, past + rows); None: all up to its own."""
    if not window and (chunk.size == 1 or not chunk.past):
        return None
    name = ("chunk", chunk.begin, window)
    if name not in batch.masks:
        device = batch.slots.device
        row = torch.arange(chunk.past, chunk.past + chunk.size, device=device)[:, None]
        column = torch.arange(chunk.past + chunk.size, device=device)[None]
        seen = column <= row
        batch.masks[name] = seen & (column > row - window) if window else seen
    return batch.masks[name]
