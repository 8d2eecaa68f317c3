"""Tokens to text as they come: characters never split, stop strings never shown, tokens reported beside their text."""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from token_service.protocol import Token
    from token_service.tokenizer import ModelTokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LONGEST_CHARACTER = 8


@dataclass
class StopFilter:
    """Passes text on, except what is or may become one of `stops`.

    Attributes:
        stops: Non-empty strings that end the text.
        stopped: True once one of them was found.
    """

    stops: Sequence[str]
    stopped: bool = False
    _held: str = field(default="", repr=False)

    def feed(self, text: str) -> str:
        """Return what can be shown now; after a stop string was found, nothing more."""
        if self.stopped:
            return ""
        if not self.stops:
            return text
        pending = self._held + text
        found = [(at + len(stop), at) for stop in self.stops if (at := pending.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return pending[: min(found)[1]]  # the one complete first, so that the cut into pieces does not matter
        keep = max((_overlap(pending, stop) for stop in self.stops), default=0)
        cut = len(pending) - keep
        self._held = pending[cut:]
        return pending[:cut]

    def flush(self) -> str:
        """Return what was held back, once it is certain that no stop string follows."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class _Bytes:
    """Text of a vocabulary that spells bytes; the cost of a token does not depend on those before it."""

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        if token in self._tokenizer.special:
            return ""
        return self._decoder.decode(self._tokenizer.raw(token))


class _Words:
    """Text of any other vocabulary: the difference that a token makes to the text of its neighbours.

    tokenizers' own `DecodeStream` raises on some sequences of invalid bytes and decodes ever longer ones again.
    """

    def __init__(self, tokenizer: ModelTokenizer, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._context = list(prompt[-4:])  # tells the decoder whether a leading space belongs to the text
        self._pending: list[int] = []

    def feed(self, token: int) -> str:
        self._pending.append(token)
        text = self._difference()
        if text.endswith(_REPLACEMENT) and len(self._pending) < _LONGEST_CHARACTER:
            return ""
        if text:
            self._context, self._pending = self._pending, []
        elif len(self._pending) >= _LONGEST_CHARACTER:
            self._context, self._pending = (self._context + self._pending)[-_LONGEST_CHARACTER:], []
        return text

    def _difference(self) -> str:
        before = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._pending)[len(before) :]


@dataclass(frozen=True)
class Entry:
    """A token and the place of its text in the whole answer, in characters; partial characters have no length."""

    token: Token
    start: int
    end: int


@dataclass
class Piece:
    """Text that is certain, and the tokens whose text ends in it."""

    text: str = ""
    entries: list[Entry] = field(default_factory=list)


class Detokenizer:
    """Turns one sequence's tokens into displayable text, piece by piece.

    Args:
        tokenizer: The model's.
        prompt: Token ids before the first one.
        stops: Strings that end the text.
        entries: Report tokens beside their text.
        start: Length of the text before the first token: an echoed prompt.
    """

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        prompt: Sequence[int],
        stops: Sequence[str],
        *,
        entries: bool = False,
        start: int = 0,
    ) -> None:
        self._text = _Bytes(tokenizer) if tokenizer.byte_level else _Words(tokenizer, prompt)
        self._filter = StopFilter(stops)
        self._with_entries = entries
        self._waiting: deque[Entry] = deque()
        self._decoded = self._shown = start

    def feed(self, tokens: Sequence[Token]) -> Piece:
        """Return what `tokens` make certain; empty while a character or a stop string is incomplete."""
        shown = ""
        for token in tokens:
            text = self._text.feed(token.id)
            if self._with_entries:
                self._waiting.append(Entry(token, self._decoded, self._decoded + len(text)))
                self._decoded += len(text)
            shown += self._filter.feed(text)
            if self._filter.stopped:
                break
        return self._piece(shown)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._filter.stopped

    def flush(self) -> Piece:
        """Return the held-back rest at the end of the sequence; a character that lacks a part is never shown."""
        return Piece() if self.stopped else self._piece(self._filter.flush(), last=True)

    def _piece(self, text: str, *, last: bool = False) -> Piece:
        self._shown += len(text)
        piece = Piece(text)
        while self._waiting and (last or self._is_shown(self._waiting[0])):
            piece.entries.append(self._waiting.popleft())
        if self.stopped:  # a token across the border shows a part of its text; those behind it show none
            piece.entries += [entry for entry in self._waiting if entry.start < self._shown]
            piece.entries = [entry for entry in piece.entries if entry.start < self._shown]
            self._waiting.clear()
        return piece

    def _is_shown(self, entry: Entry) -> bool:
        """Tell whether all text of an entry was shown; a part of a character waits for the rest of it."""
        return entry.end < self._shown or entry.start < entry.end == self._shown
