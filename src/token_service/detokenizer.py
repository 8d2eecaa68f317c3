"""Tokens to text as they come: characters never split, stop strings never shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer


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


class Detokenizer:
    """Turns one sequence's token ids into displayable text, piece by piece."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        # The last prompt tokens give sentencepiece-style decoders the context for a leading space.
        self._stream = DecodeStream(ids=list(prompt[-4:]), skip_special_tokens=True)
        self._filter = StopFilter(stops)

    def feed(self, token: int) -> str:
        """Return the text that `token` makes certain; empty while a character or a stop string is incomplete."""
        return self._filter.feed(self._stream.step(self._tokenizer, token) or "")

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._filter.stopped

    def flush(self) -> str:
        """Return the held-back rest at the end of the sequence."""
        return self._filter.flush()
