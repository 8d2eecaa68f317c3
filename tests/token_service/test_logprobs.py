"""Log probabilities over HTTP: beside their text, in both shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

_COMPLETION = {"model": "demo", "prompt": "The", "max_tokens": 12, "temperature": 0}
_CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}


def _stream(service: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks of a stream after checking its frame: `data:` lines that end with [DONE]."""
    with service.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = answer.read().decode()
    frames = [frame.removeprefix("data: ") for frame in text.strip().split("\n\n")]
    assert frames[-1] == "[DONE]", text
    return [json.loads(frame) for frame in frames[:-1]]


def test_completion_logprobs_belong_to_the_text(service: httpx.Client) -> None:
    """Tokens spell the text from their offsets, values are logarithms, the likeliest come first, streamed or not."""
    body = _COMPLETION | {"logprobs": 3}
    whole = service.post("/v1/completions", json=body).json()["choices"][0]
    scores = whole["logprobs"]
    assert "".join(scores["tokens"]) == whole["text"]
    for token, offset in zip(scores["tokens"], scores["text_offset"], strict=True):
        assert whole["text"][offset:].startswith(token)
    for token, value, top in zip(scores["tokens"], scores["token_logprobs"], scores["top_logprobs"], strict=True):
        assert value <= 0
        assert top[token] == value
        assert list(top.values())[:3] == sorted(top.values(), reverse=True)[:3]
    joined: dict[str, list[Any]] = {name: [] for name in scores}
    for chunk in _stream(service, "/v1/completions", body):
        for name in joined:
            joined[name] += (chunk["choices"][0]["logprobs"] or {name: []})[name]
    assert joined["tokens"] == scores["tokens"]
    assert joined["text_offset"] == scores["text_offset"]
    assert joined["token_logprobs"] == pytest.approx(scores["token_logprobs"], abs=1e-4)


def test_chat_logprobs_carry_bytes(service: httpx.Client) -> None:
    """The bytes of all tokens are the answer's; top_logprobs has as many as asked for."""
    choice = service.post("/v1/chat/completions", json=_CHAT | {"logprobs": True, "top_logprobs": 2}).json()["choices"][
        0
    ]
    content = choice["logprobs"]["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == choice["message"]["content"]
    assert {len(entry["top_logprobs"]) for entry in content} == {2}
    assert content[0]["top_logprobs"][0]["logprob"] >= content[0]["top_logprobs"][1]["logprob"]
    plain = service.post("/v1/chat/completions", json=_CHAT).json()["choices"][0]
    assert plain["logprobs"] is None


def test_echo_begins_with_the_prompt(service: httpx.Client) -> None:
    """With log probabilities the prompt's tokens have theirs, except the first; with no token to generate as well."""
    plain = service.post("/v1/completions", json=_COMPLETION).json()["choices"][0]["text"]
    body = _COMPLETION | {"echo": True, "logprobs": 1}
    choice = service.post("/v1/completions", json=body).json()["choices"][0]
    assert choice["text"] == "The" + plain
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert "".join(choice["logprobs"]["tokens"][1:]) == choice["text"]
    streamed = _stream(service, "/v1/completions", body)
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == choice["text"]
    scored = service.post("/v1/completions", json=body | {"max_tokens": 0}).json()
    assert scored["choices"][0]["text"] == "The"
    assert scored["usage"]["completion_tokens"] == 0
    known = choice["logprobs"]["token_logprobs"][1]
    assert scored["choices"][0]["logprobs"]["token_logprobs"] == [None, pytest.approx(known, abs=1e-4)]
    only = service.post("/v1/completions", json=_COMPLETION | {"echo": True, "max_tokens": 0, "stream": True})
    assert '"text":"The"' in only.text


def test_stop_string_ends_the_logprobs_too(service: httpx.Client) -> None:
    """No token of the stop string or behind it is reported."""
    text = service.post("/v1/completions", json=_COMPLETION).json()["choices"][0]["text"]
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    choice = service.post("/v1/completions", json=_COMPLETION | {"stop": stop, "logprobs": 0}).json()["choices"][0]
    assert max(choice["logprobs"]["text_offset"], default=-1) < max(1, len(choice["text"]))
