"""A folder that cannot be served is refused at start, with the file and the fix."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from token_service import settings
from token_service.engine.build import build
from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.token_service.engine.conftest import Runner
    from token_service.engine.batcher import Batcher
    from token_service.protocol import Hello


def _build(folder: Path, **overrides: str) -> tuple[Batcher, Hello]:
    values = {"MODEL_DIR": str(folder), "DEVICE": "cpu", "THREADS": "1"} | overrides
    config = settings.read({f"TOKEN_SERVICE_{name}": value for name, value in values.items()})
    return build(config, config.models[0], time.monotonic())


def _edit(file: Path, **changes: object) -> None:
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | changes))


def test_truncated_weights_are_refused(folder: Path) -> None:
    """The message names the folder and what to do."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(StartError, match="cannot load") as refused:
        _build(folder)
    assert str(folder) in refused.value.what
    assert "manifest" in refused.value.mend


def test_missing_parameter_is_not_made_up(folder: Path) -> None:
    """Transformers would only warn, and answer with random weights."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if "mlp" in name)
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(StartError, match="do not fit") as refused:
        _build(folder)
    assert name in refused.value.seen


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    """A config.json of another size."""
    _edit(folder / "config.json", intermediate_size=64)
    with pytest.raises(StartError) as refused:
        _build(folder)
    assert str(folder) in refused.value.what


def test_weights_that_are_no_floating_point_numbers_are_refused(folder: Path) -> None:
    """Integers would be cast and served as nonsense."""
    file = folder / "model.safetensors"
    tensors = {name: tensor.to(torch.int8) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(StartError, match="not floating point") as refused:
        _build(folder)
    assert refused.value.seen.endswith("I8")


def test_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    """A token id without a row in the embedding."""
    document = json.loads((folder / "tokenizer.json").read_text())
    document["added_tokens"].append(dict(document["added_tokens"][0], id=1536 + 7, content="<odd>"))
    document["model"]["vocab"]["<odd>"] = 1536 + 7
    (folder / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(StartError, match="do not belong together") as refused:
        _build(folder)
    assert "1543" in refused.value.seen


def test_unreadable_tokenizer_is_refused(folder: Path) -> None:
    """The file is named."""
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(StartError) as refused:
        _build(folder)
    assert "tokenizer.json" in refused.value.what


def test_unknown_architecture_is_refused(folder: Path) -> None:
    """A model type that transformers does not have."""
    _edit(folder / "config.json", model_type="nothing-known", architectures=["Nothing"])
    with pytest.raises(StartError, match="cannot load"):
        _build(folder)


def test_cache_that_does_not_fit_is_refused(demo: Path) -> None:
    """The message gives both sizes and the setting."""
    with pytest.raises(StartError, match="does not fit") as refused:
        _build(demo, KV_CACHE_BYTES="1000")
    assert "TOKEN_SERVICE_MAX_CONTEXT" in refused.value.mend


def test_small_cache_gives_fewer_slots(demo: Path) -> None:
    """As many sequences run as fit; the rest of the places wait."""
    _, whole = _build(demo, MAX_RUNNING="4", MAX_WAITING="10")
    shape = json.loads((demo / "config.json").read_text())
    token = 2 * shape["num_hidden_layers"] * shape["num_key_value_heads"] * shape["head_dim"] * 4
    _, small = _build(demo, MAX_RUNNING="4", MAX_WAITING="10", KV_CACHE_BYTES=str(3 * token * whole.context))
    assert whole.places == 14
    assert small.places == 12  # two run, ten wait, and one slot is kept for health checks


def test_context_can_be_shortened(demo: Path) -> None:
    """MAX_CONTEXT below the model's own wins, above it does nothing."""
    assert _build(demo, MAX_CONTEXT="64")[1].context == 64
    assert _build(demo, MAX_CONTEXT="1000000")[1].context == 1024


def test_bfloat16_and_eager_attention_run(make_runner: Callable[..., Runner], demo: Path) -> None:
    """The other type and the other attention generate as well."""
    from token_service.protocol import Job  # noqa: PLC0415 - beside its only use

    assert len(make_runner(demo, DTYPE="bfloat16", ATTENTION="eager").tokens(Job((5, 6, 7), 4))[0]) == 4
