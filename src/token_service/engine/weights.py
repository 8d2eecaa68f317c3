"""The model folder in memory: verified, loaded, and refused with the file and the fix when it cannot be served."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from token_service import manifest
from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from token_service.settings import ModelSource, Settings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STORED = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Weights:
    """A loaded causal language model.

    Attributes:
        name: As clients call it.
        network: The network, on its device, with attention over slots.
        context: Most tokens a prompt and its completion may have together.
        vocabulary: Number of token ids.
        eos: Token ids that end a sequence.
        created: Unix time in seconds, from the folder.
        sha256: Of the manifest.
    """

    name: str
    network: PreTrainedModel
    context: int
    vocabulary: int
    eos: frozenset[int]
    created: int
    sha256: str


def load(source: ModelSource, settings: Settings, attention: str) -> Weights:
    """Load a model folder to its device.

    Args:
        source: The model; its folder is verified elsewhere.
        settings: The service's settings.
        attention: Name of the attention implementation.

    Raises:
        StartError: transformers cannot load the folder, or the service cannot serve what is in it.
    """
    folder = source.folder
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    dtype = "auto" if settings.device != "cpu" else torch.float32
    try:
        _check_types(folder)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=_DTYPES.get(settings.dtype, dtype),
            attn_implementation=attention,
            output_loading_info=True,
        )
        network: PreTrainedModel = loaded[0]
        network.eval().requires_grad_(requires_grad=False)  # type: ignore[no-untyped-call]
        _check(folder, network, loaded[1])
        with within_memory(folder, settings):
            network.to(settings.device)  # type: ignore[arg-type]  # transformers wraps the method
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        ImportError,
        RuntimeError,
        AssertionError,
        TypeError,
    ) as error:
        raise _refuse(folder, error) from error
    config = network.config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", 0) or 0)
    if not context:
        raise StartError(f"{folder}/config.json does not say how long a context may be", rule="max_position_embeddings")
    return Weights(
        name=source.name,
        network=network,
        context=min(context, settings.max_context or context),
        vocabulary=int(network.get_input_embeddings().num_embeddings),  # type: ignore[arg-type]
        eos=_eos(folder, network),
        created=int(folder.stat().st_mtime),
        sha256=manifest.fingerprint(folder),
    )


def _refuse(folder: Path, error: Exception) -> StartError:
    reason = " ".join(str(error).split())
    return StartError(
        f"cannot load a causal language model from {folder}",
        seen=f"{type(error).__name__}: {reason}"[:400],
        rule="config.json, *.safetensors and tokenizer.json of one transformers model",
        mend="fix the folder and its manifest (python -m token_service.manifest --write), or serve another one",
    )


@contextlib.contextmanager
def within_memory(folder: Path, settings: Settings) -> Iterator[None]:
    """Turn a lack of memory into the one message of a refused start."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise StartError(
            f"{folder} does not fit into the memory of {settings.device}",
            seen=str(error).split(". ")[0][:300],
            rule="weights and key-value cache fit side by side",
            mend="set TOKEN_SERVICE_DTYPE=bfloat16, serve fewer models on this device, or take a larger one",
        ) from None


def _check_types(folder: Path) -> None:
    """Refuse weights that are not floating point numbers: transformers would cast them to some."""
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - it is no mapping
                kind = stored.get_slice(name).get_dtype()
                if name.endswith(".weight") and kind not in _STORED:
                    raise StartError(
                        f"the weights in {file} are not floating point numbers",
                        seen=f"{name}: {kind}",
                        rule=f"one of {', '.join(_STORED)}",
                        mend="export the model in one of these types; quantised weights are not supported",
                    )


def _check(folder: Path, network: PreTrainedModel, report: dict[str, Any]) -> None:
    """Refuse what transformers only warns of: it would answer with random weights."""
    for kind in ("missing_keys", "mismatched_keys"):
        found = sorted(map(str, report.get(kind) or ()))
        if found:
            raise StartError(
                f"the weights in {folder} do not fit its config.json",
                seen=f"{len(found)} {kind.replace('_', ' ')}, first {found[0]}",
                rule="every parameter of the architecture is in *.safetensors, in its shape",
                mend="download or export the model again",
            )
    path = folder / "tokenizer.json"
    try:
        vocabulary = Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)
    except Exception as error:  # noqa: BLE001 - the Rust library raises plain Exception
        raise StartError(
            f"cannot read {path}", seen=str(error)[:300], rule="a tokenizer of the tokenizers library"
        ) from None
    rows = int(network.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    highest = max(vocabulary.values(), default=-1)
    if highest >= rows:
        raise StartError(
            f"tokenizer and weights in {folder} do not belong together",
            seen=f"token id {highest} in tokenizer.json, {rows} rows in the embedding",
            rule="every token id has a row",
            mend="take tokenizer.json and *.safetensors from the same model",
        )


def _eos(folder: Path, network: PreTrainedModel) -> frozenset[int]:
    """Return what ends a sequence: generation_config.json's word, else config.json's, and the tokenizer's own."""
    configured: Any = network.generation_config.eos_token_id if network.generation_config else None
    if configured is None:
        configured = getattr(network.config.get_text_config(), "eos_token_id", None)
    listed = [*configured] if isinstance(configured, list) else [configured]
    listed.append(_tokenizer_eos(folder))
    return frozenset(int(token) for token in listed if token is not None)


def _tokenizer_eos(folder: Path) -> int | None:
    try:
        named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("eos_token")
    except (SafetensorError, OSError, ValueError, AttributeError):
        return None
    text = named.get("content") if isinstance(named, dict) else named
    return Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(text) if isinstance(text, str) else None
