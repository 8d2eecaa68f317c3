"""From settings to a warm engine."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from token_service import metrics
from token_service.engine.attention import SlotAttention
from token_service.engine.batcher import Batcher, Limits
from token_service.engine.weights import Weights, load, within_memory
from token_service.errors import StartError
from token_service.protocol import Hello

if TYPE_CHECKING:
    from token_service.settings import ModelSource, Settings

_log = logging.getLogger(__name__)
_SHARE = {"cpu": 0.25, "cuda": 0.85}
"""Of the memory that is there (CPU: all of it; GPU: what the weights left), for the key-value cache."""
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def build(settings: Settings, source: ModelSource, began: float) -> tuple[Batcher, Hello]:
    """Load a model, reserve its key-value cache and run every kind of pass once.

    Args:
        settings: The service's settings.
        source: The model; its folder is verified elsewhere.
        began: `time.monotonic()` when the process started.

    Raises:
        StartError: the model cannot be served.
    """
    torch.set_num_threads(settings.threads)
    attention = SlotAttention(eager=settings.attention == "eager")
    weights = load(source, settings, attention.name)
    slots = _reserve(weights, attention, settings, source)
    limits = Limits(slots, settings.max_waiting, settings.max_batch_tokens, settings.prefix_cache)
    batcher = Batcher(weights, attention, limits)
    with within_memory(source.folder, settings):
        batcher.warm_up()
    seconds = time.monotonic() - began
    metrics.engine_starts.labels(weights.name).inc()
    metrics.load_seconds.labels(weights.name).set(seconds)
    parameters = weights.network.num_parameters()
    facts = {"model": weights.name, "parameters": parameters, "context": weights.context, "slots": slots}
    _log.info("model ready", extra=facts | {"device": settings.device, "seconds": round(seconds, 3)})
    hello = Hello(
        model=weights.name,
        context=weights.context,
        vocabulary=weights.vocabulary,
        places=batcher.places,
        created=weights.created,
        sha256=weights.sha256,
    )
    return batcher, hello


def _reserve(weights: Weights, attention: SlotAttention, settings: Settings, source: ModelSource) -> int:
    """Allocate as many slots as are wanted and fit; return their number."""
    network = weights.network
    one = torch.zeros((1, 1), dtype=torch.long, device=network.device)
    try:
        with torch.inference_mode():  # no batch is set: this pass only notes the layers' shapes
            network(input_ids=one, position_ids=one, use_cache=False, logits_to_keep=1)
    except (NotImplementedError, TypeError, RuntimeError, AttributeError) as error:
        raise StartError(
            f"the architecture of {source.folder} cannot be served",
            seen=f"{type(network).__name__}: {type(error).__name__}: {error}"[:300],
            rule="a decoder whose attention goes through transformers' attention interface",
            mend="serve another model",
        ) from error
    if not attention.shapes:
        raise StartError(f"{source.folder} has no attention layers", seen=type(network).__name__, rule="a transformer")
    wanted, room = settings.max_running, _room(settings)
    slot_bytes = weights.context * attention.bytes_per_token
    slots = min(wanted, room // slot_bytes - 1)  # one more is for health checks
    if slots < 1:
        raise StartError(
            f"the key-value cache of {source.folder} does not fit",
            seen=f"{slot_bytes / 1e6:.0f} MB for one context of {weights.context} tokens, {room / 1e6:.0f} MB in all",
            rule="two contexts fit",
            mend="set TOKEN_SERVICE_MAX_CONTEXT to a shorter one, or TOKEN_SERVICE_KV_CACHE_BYTES to more",
        )
    if slots < wanted:
        facts = {"wanted": wanted, "slots": slots, "slot_bytes": slot_bytes, "room": room}
        _log.warning("fewer sequences run side by side than MAX_RUNNING: a shorter MAX_CONTEXT would help", extra=facts)
    with within_memory(source.folder, settings):
        attention.allocate(slots + 1, weights.context, network.dtype, network.device)
    return slots


def _room(settings: Settings) -> int:
    if settings.kv_cache_bytes:
        return settings.kv_cache_bytes
    share = _SHARE[settings.device] / (1 if settings.device == "cpu" else len(settings.models))
    if settings.device == "cuda":
        return int(torch.cuda.mem_get_info()[0] * share)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _LIMITS:
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            memory = min(memory, int(text))
    return int(memory * share / len(settings.models))
