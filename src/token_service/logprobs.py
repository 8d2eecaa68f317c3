"""Log probabilities in OpenAI's two shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from token_service.detokenizer import Entry
    from token_service.tokenizer import ModelTokenizer

_LEAST = -9999.0
"""In place of minus infinity, which JSON cannot spell; the value vLLM uses."""


def completion(tokenizer: ModelTokenizer, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return `logprobs` of a completion's choice; offsets count characters of the choice's text."""

    def top(entry: Entry) -> dict[str, float] | None:
        if entry.token.logprob is None:
            return None
        likeliest = {_spell(tokenizer, token, "bytes:"): _finite(value) for token, value in entry.token.top}
        # The chosen token is reported whether or not it is among the likeliest.
        return likeliest | {_spell(tokenizer, entry.token.id, "bytes:"): _finite(entry.token.logprob)}

    return {
        "tokens": [_spell(tokenizer, entry.token.id, "bytes:") for entry in entries],
        "token_logprobs": [None if entry.token.logprob is None else _finite(entry.token.logprob) for entry in entries],
        "top_logprobs": [top(entry) for entry in entries],
        "text_offset": [entry.start for entry in entries],
    }


def chat(tokenizer: ModelTokenizer, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return `logprobs` of a chat's choice."""

    def one(token: int, logprob: float | None) -> dict[str, Any]:
        value = _LEAST if logprob is None else _finite(logprob)
        return {"token": _spell(tokenizer, token), "logprob": value, "bytes": list(tokenizer.raw(token))}

    content = [
        one(entry.token.id, entry.token.logprob) | {"top_logprobs": [one(*pair) for pair in entry.token.top]}
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def _spell(tokenizer: ModelTokenizer, token: int, mark: str = "") -> str:
    r"""Return a token's text; bytes of a part of a character as `\xf0`, which OpenAI's completions mark as `bytes:`."""
    raw = tokenizer.raw(token)
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.encode() == raw else mark + text


def _finite(value: float) -> float:
    return max(value, _LEAST)
