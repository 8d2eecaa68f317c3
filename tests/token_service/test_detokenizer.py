"""Incremental text: whole characters, no stop strings, nothing lost."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from token_service.detokenizer import Detokenizer, StopFilter

if TYPE_CHECKING:
    from token_service.model import Model


@pytest.mark.parametrize("text", ["plain text", "naïve café “quotes” 😀 汉字 ok", "a\n\n  b"])
def test_pieces_join_to_the_text_without_splitting_characters(model: Model, text: str) -> None:
    """The demo tokenizer spells 😀 with four tokens; no piece may hold a part of it."""
    prompt = model.encode("Say")
    detokenizer = Detokenizer(model.core, prompt, ())
    pieces = [detokenizer.feed(token) for token in model.core.encode(text, add_special_tokens=False).ids]
    assert "".join(pieces) + detokenizer.flush() == text
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("stops", "text", "shown"),
    [
        (["END"], "so far ENTER END never", "so far ENTER "),
        (["\n\n", "stop"], "one\ntwo stop\n\n", "one\ntwo "),
        (["aab"], "aaaaab", "aaa"),
        (["xyz"], "ends with xy", "ends with xy"),
        (["b", "abc"], "abc", "a"),
        ([], "anything", "anything"),
    ],
)
def test_stop_string_never_shows(stops: list[str], text: str, shown: str, size: int) -> None:
    """However the text is cut into pieces, what is shown ends right before the first stop string."""
    stop = StopFilter(stops)
    cuts = [*range(0, len(text), size), len(text)]
    assert "".join(stop.feed(text[a:b]) for a, b in pairwise(cuts)) + stop.flush() == shown


def test_text_is_held_no_longer_than_needed() -> None:
    """Only what may begin a stop string waits."""
    stop = StopFilter(["<end>"])
    assert stop.feed("hello <") == "hello "
    assert stop.feed("b") == "<b"
