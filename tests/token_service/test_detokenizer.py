"""Incremental text: whole characters, no stop strings, nothing lost, tokens beside their text."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from token_service import tokenizer
from token_service.detokenizer import Detokenizer, Piece, StopFilter
from token_service.protocol import Token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from token_service.tokenizer import ModelTokenizer


@pytest.fixture(scope="module")
def demo_tokenizer(demo: Path) -> ModelTokenizer:
    """The demo model's tokenizer."""
    return tokenizer.load("demo", demo)


def _pieces(detokenizer: Detokenizer, ids: Sequence[int]) -> list[Piece]:
    return [*(detokenizer.feed([Token(token)]) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("text", ["plain text", "naïve café “quotes” 😀 汉字 ok", "a\n\n  b"])
def test_pieces_join_to_the_text_without_splitting_characters(demo_tokenizer: ModelTokenizer, text: str) -> None:
    """The demo tokenizer spells 😀 with four tokens; no piece may hold a part of it."""
    ids = demo_tokenizer.core.encode(text, add_special_tokens=False).ids
    pieces = [piece.text for piece in _pieces(Detokenizer(demo_tokenizer, [1], ()), ids)]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_any_tokens_give_the_text_of_all_at_once(demo_tokenizer: ModelTokenizer) -> None:
    """Random ids, invalid bytes and control tokens among them, stream to what decoding them together gives."""
    draw = random.Random(7)  # noqa: S311 - a repeatable test
    for _ in range(200):
        ids = [draw.randrange(1536) for _ in range(draw.randrange(1, 60))]
        ids += demo_tokenizer.core.encode(" end", add_special_tokens=False).ids
        streamed = "".join(piece.text for piece in _pieces(Detokenizer(demo_tokenizer, [1], ()), ids))
        assert streamed == demo_tokenizer.decode(ids)


def test_character_that_lacks_a_part_is_not_shown(demo_tokenizer: ModelTokenizer) -> None:
    """max_tokens may cut a character in two; the half of it is no text, but its tokens are reported."""
    ids = demo_tokenizer.core.encode("ok 😀", add_special_tokens=False).ids[:-1]
    pieces = _pieces(Detokenizer(demo_tokenizer, [1], (), entries=True), ids)
    assert "".join(piece.text for piece in pieces) == "ok "
    assert [entry.token.id for piece in pieces for entry in piece.entries] == ids


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


def test_tokens_come_with_their_text(demo_tokenizer: ModelTokenizer) -> None:
    """A token is reported in the piece that shows the end of its text, at its place; parts of a character wait."""
    text = "go “over” 😀 now"
    ids = demo_tokenizer.core.encode(text, add_special_tokens=False).ids
    shown, reported = 5, []
    for piece in _pieces(Detokenizer(demo_tokenizer, [1], ["😀 never"], entries=True, start=5), ids):
        shown += len(piece.text)
        reported += piece.entries
        assert all(entry.end <= shown for entry in piece.entries)
        assert bool(piece.text) == bool(piece.entries)
    assert [entry.token.id for entry in reported] == ids
    for entry in reported:
        if entry.end > entry.start:
            known = demo_tokenizer.raw(entry.token.id).decode(errors="ignore").strip("\ufffd")
            assert known in text[entry.start - 5 : entry.end - 5]


def test_tokens_behind_a_stop_string_are_not_reported(demo_tokenizer: ModelTokenizer) -> None:
    """Tokens inside and behind the stop string are dropped; one across its border shows a part of its text."""
    ids = demo_tokenizer.core.encode("one two three four", add_special_tokens=False).ids
    detokenizer = Detokenizer(demo_tokenizer, [1], ["two"], entries=True)
    pieces = _pieces(detokenizer, ids)
    assert detokenizer.stopped
    assert "".join(piece.text for piece in pieces) == "one "
    assert max(entry.start for piece in pieces for entry in piece.entries) < len("one ")
