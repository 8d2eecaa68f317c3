"""One model's tokenizer for HTTP workers: text to tokens, tokens to text and bytes. Nothing here imports torch."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import jinja2
from transformers import PreTrainedTokenizerFast

from token_service.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

Turn = dict[str, str]
_SHORT = 2000
_THREADS = 2
_PRIVATE_USE = range(0xE000, 0xF8FF)
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class PromptError(ValueError):
    """The prompt cannot be turned into tokens; the text says why and may be shown to the client."""


class ModelTokenizer:
    """The tokenizer and the chat template of one model folder.

    Attributes:
        model: Name of the model.
        core: The Rust tokenizer; nothing may change its settings, several threads use it.
        special: Ids of control tokens, which text never shows.
        byte_level: Tokens spell bytes one by one, so that text can be put together from `raw`.
    """

    def __init__(self, model: str, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model
        self.core: Tokenizer = tokenizer.backend_tokenizer
        self.core.no_truncation()
        self.core.no_padding()
        added = self.core.get_added_tokens_decoder()
        self.special = frozenset(number for number, token in added.items() if token.special)
        kinds = _kinds(self.core)
        self.byte_level = "ByteLevel" in kinds
        self._byte_fallback = "ByteFallback" in kinds
        self._tokenizer = tokenizer
        self._added = {number: token.content for number, token in added.items()}
        # A control token is one whatever its flag says: many models leave `<think>` and the like without it. Runs of
        # white space, which some vocabularies add, are not.
        control = [token.content for token in added.values() if token.special]
        structure = [token.content for token in added.values() if not token.content.isspace()]
        self._control, self._structure = _beginnings(control), _beginnings(structure)
        self._raw: dict[int, bytes] = {}
        self._limiter = anyio.CapacityLimiter(_THREADS)

    async def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Return the token ids of a plain prompt; control tokens spelled out in it count as such.

        Args:
            text: The prompt.
            special: Add what the tokenizer puts before and behind a text, such as a beginning-of-sequence token.
        """
        return await self._aside(len(text), lambda: list(self.core.encode(text, add_special_tokens=special).ids))

    async def encode_chat(self, turns: Sequence[Turn], *, generation_prompt: bool = True) -> list[int]:
        """Return the token ids of a conversation, rendered by the model's chat template.

        Control tokens that are spelled out in a turn become ordinary text: nobody can end a turn or forge another one
        from within a message.

        Raises:
            PromptError: the model has no template, or the template refuses the turns.
        """
        if not self._tokenizer.chat_template:
            raise PromptError(f"model {self.model} has no chat template; use /v1/completions")
        size = sum(len(turn["content"]) for turn in turns)
        return await self._aside(size, lambda: self._encode_chat(turns, generation_prompt))

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Return the text of token ids; control tokens show only with `special`."""
        return self.core.decode(list(ids), skip_special_tokens=not special)

    def raw(self, token: int) -> bytes:
        """Return the bytes that a token stands for, which may be a part of a character."""
        if (known := self._raw.get(token)) is None:
            known = self._raw[token] = self._spell(token)
        return known

    def _spell(self, token: int) -> bytes:
        if (added := self._added.get(token)) is not None:
            return added.encode()
        text = self.core.id_to_token(token)
        if text is None:  # a model may have more ids than its tokenizer knows
            return b""
        if self.byte_level:
            try:
                return bytes(_BYTES[character] for character in text)
            except KeyError:
                return text.encode()
        if self._byte_fallback and (found := _BYTE_TOKEN.fullmatch(text)):
            return bytes.fromhex(found[1])
        return text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()  # sentencepiece's spelling of a space

    async def _aside(self, size: int, work: Callable[[], list[int]]) -> list[int]:
        """Run long work in a thread, a few at a time: a megabyte of prompt would stop every stream for a second."""
        if size <= _SHORT:  # cheaper than the way to a thread and back
            return work()
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    def _encode_chat(self, turns: Sequence[Turn], generation_prompt: bool) -> list[int]:  # noqa: FBT001
        contents = "".join(turn["content"] for turn in turns)
        mark = next(chr(code) for code in _PRIVATE_USE if chr(code) not in contents)
        guarded = [turn | {"content": self._guard(turn, mark)} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(guarded, tokenize=False, add_generation_prompt=generation_prompt)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise PromptError(f"the chat template refuses these messages: {error}") from error
        pieces = str(text).split(mark)
        return [token for piece in pieces for token in self.core.encode(piece, add_special_tokens=False).ids]

    def _guard(self, turn: Turn, mark: str) -> str:
        """Put `mark` inside every control token that the turn spells out, where the text is cut before encoding.

        tokenizers can encode all of a text without control tokens, or none of it; a rendered template needs both.
        Earlier answers may hold structure that templates look for, such as `</think>`.
        """
        pattern = self._control if turn["role"] == "assistant" else self._structure
        return turn["content"] if pattern is None else pattern.sub(lambda found: found[0] + mark, turn["content"])


def _beginnings(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Return a pattern for the first character of every token, overlapping ones included."""
    divisible = sorted({re.escape(token) for token in tokens if len(token) > 1})
    return re.compile(f"(?={'|'.join(divisible)}).", re.DOTALL) if divisible else None


def _kinds(core: Tokenizer) -> set[str]:
    """Return the types of the decoder's parts."""
    if core.decoder is None:
        return set()
    decoder = json.loads(core.decoder.__getstate__())
    parts = decoder.get("decoders", [decoder])
    return {str(part.get("type")) for part in parts}


def _byte_alphabet() -> dict[str, int]:
    """Return which byte each character of a byte-level vocabulary stands for (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def load(model: str, folder: Path) -> ModelTokenizer:
    """Load the tokenizer of a model folder; about 10 ms, safe before a fork.

    Raises:
        StartError: transformers cannot load it.
    """
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise StartError(
            f"cannot load the tokenizer of {folder}",
            seen=f"{type(error).__name__}: {reason[0] if reason else ''}"[:400],
            rule="tokenizer.json and tokenizer_config.json of one transformers model",
            mend="restore the files; python -m token_service.manifest finds which one differs",
        ) from error
    return ModelTokenizer(model, tokenizer)
