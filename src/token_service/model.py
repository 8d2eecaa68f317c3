"""The model folder in memory: weights, tokenizer, and what the service must know about both."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from token_service import manifest
from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from token_service.settings import Settings

_log = logging.getLogger(__name__)


class PromptError(ValueError):
    """The prompt cannot be turned into tokens; the text says why and may be shown to the client."""


@dataclass
class Model:
    """A loaded causal language model.

    Attributes:
        name: As clients call it.
        network: The weights.
        tokenizer: Hugging Face tokenizer with its chat template.
        context: Most tokens a prompt and its completion may have together.
        eos: Token ids that end a sequence.
        created: Unix time in seconds, from the weights' folder.
    """

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    context: int
    eos: frozenset[int]
    created: int

    @property
    def core(self) -> Tokenizer:
        """The Rust tokenizer, which decodes streams."""
        return self.tokenizer.backend_tokenizer

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a plain prompt.

        Raises:
            PromptError: no tokens come out of it.
        """
        return _filled(self.core.encode(text).ids)

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Return the token ids of a conversation, rendered by the model's chat template.

        Raises:
            PromptError: the model has no template, or the template refuses the messages.
        """
        if not self.tokenizer.chat_template:
            raise PromptError(f"model {self.name} has no chat template; use /v1/completions")
        try:
            text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except jinja2.TemplateError as error:
            raise PromptError(f"the chat template refuses these messages: {error}") from error
        return _filled(self.core.encode(str(text), add_special_tokens=False).ids)

    def place(self, device: str) -> None:
        """Move the weights to `device`; call it in the worker, never before the fork."""
        if device != "cpu":
            self.network.to(device)  # type: ignore[arg-type]  # transformers wraps the method


def _filled(ids: list[int]) -> list[int]:
    if not ids:
        raise PromptError("the prompt is empty")
    return ids


def _eos(network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    configured: Any = network.generation_config.eos_token_id if network.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in [*listed, tokenizer.eos_token_id] if token is not None)


def load(settings: Settings) -> Model:
    """Verify the model folder against its manifest, then load it to main memory.

    No forward pass happens here and torch gets one thread: what follows is a fork, and a child of a process that
    has a running thread pool hangs in its first matrix product.

    Raises:
        StartError: a file differs from the manifest, or transformers cannot load the folder.
    """
    folder = settings.model_dir
    manifest.verify(folder)
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32 if settings.device == "cpu" else "auto",
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise StartError(
            f"cannot load a causal language model from {folder}",
            seen=f"{type(error).__name__}: {reason[0] if reason else ''}"[:400],
            rule="config.json, *.safetensors and tokenizer.json of one transformers model",
            mend="fix the folder or set TOKEN_SERVICE_MODEL_DIR",
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise StartError(f"{folder} has no fast tokenizer", type(tokenizer).__name__, "tokenizer.json is present")
    # The Rust tokenizer is used from several threads, so nothing may change its settings later.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    network.eval()  # type: ignore[no-untyped-call]
    context = int(getattr(network.config.get_text_config(), "max_position_embeddings", 0) or tokenizer.model_max_length)
    return Model(
        name=settings.model_name,
        network=network,
        tokenizer=tokenizer,
        context=context,
        eos=_eos(network, tokenizer),
        created=int(folder.stat().st_mtime),
    )
