"""Bad and unusual requests to a real service process: an answer for every one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

_COMPLETION = {"model": "demo", "prompt": "The", "max_tokens": 12, "temperature": 0}
_CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}


def test_context_is_usable_to_the_last_token(service: httpx.Client) -> None:
    """Prompt plus max_tokens may fill the context exactly; one more is refused and the next request works."""
    body = _COMPLETION | {"prompt": "a b" * 300}
    prompt = service.post("/v1/completions", json=body | {"max_tokens": 1}).json()["usage"]["prompt_tokens"]
    room = service.get("/v1/models/demo").json()["max_model_len"] - prompt
    refused = service.post("/v1/completions", json=body | {"max_tokens": room + 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert service.post("/v1/completions", json=body | {"max_tokens": room}).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"model": "gpt-9"}, 404, "gpt-9"),
        ({"prompt": None}, 400, "prompt"),
        ({"prompt": ["a", 1]}, 400, "prompt[1]"),
        ({"prompt": [1, 1536]}, 400, "vocabulary"),
        ({"prompt": [[1], []]}, 400, "prompt[1]"),
        ({"prompt": "\ud800"}, 400, "surrogate"),
        ({"prompt": "a " * 5000}, 400, "context"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": "5"}, 400, "max_tokens"),
        ({"max_tokens": True}, 400, "max_tokens"),
        ({"temperature": -0.1}, 400, "temperature"),
        ({"temperature": 1e400}, 400, "JSON"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias"),
        ({"top_p": 0}, 400, "top_p"),
        ({"top_k": -2}, 400, "top_k"),
        ({"seed": 2**64}, 400, "seed"),
        ({"stop": ""}, 400, "stop"),
        ({"stop": ["a"] * 5}, 400, "stop"),
        ({"n": 129}, 400, "n"),
        ({"stream": "yes"}, 400, "stream"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"best_of": 2, "suffix": "x"}, 400, "best_of, suffix"),
        ({"\ud800": 1}, 400, ""),
        ({"x" * 10000: 1}, 400, "unknown parameter"),
    ],
)
def test_bad_completion_is_refused(service: httpx.Client, change: dict[str, Any], status: int, says: str) -> None:
    """A small OpenAI error body names the parameter; the status is never 500."""
    content = json.dumps(_COMPLETION | change)
    answer = service.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert says in answer.json()["error"]["message"]
    assert len(answer.content) < 700


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "messages"),
        ("hi", "messages"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages[0].content"),
        ([{"role": "user", "content": "x", "name": "me"}], "messages[0].name"),
    ],
)
def test_bad_messages_are_refused(service: httpx.Client, messages: object, says: str) -> None:
    """The path of the wrong part is in the message."""
    answer = service.post("/v1/chat/completions", json=_CHAT | {"messages": messages})
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]["message"]


def test_two_limits_that_differ_are_refused(service: httpx.Client) -> None:
    """max_tokens and its newer name must agree."""
    assert service.post("/v1/chat/completions", json=_CHAT | {"max_completion_tokens": 5}).status_code == 400
    assert service.post("/v1/chat/completions", json=_CHAT | {"max_completion_tokens": 12}).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b'{"model": 1' + b"1" * 5000,
        b'{"model": "demo", "prompt": "x", "temperature": NaN}',
        b'{"model": "demo", "prompt": "x", "seed": ' + b"9" * 300 + b"}",
        '{"model": "demo", "prompt": "x"}'.encode("utf-16"),
        b'{"model": "demo", "prompt": "\xed\xa0\x80"}',
    ],
)
def test_malformed_body_is_refused(service: httpx.Client, content: bytes) -> None:
    """Broken, empty, deep or absurd JSON, NaN and anything that is not UTF-8 are the client's error."""
    answer = service.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert len(answer.content) < 700


def test_last_of_two_equal_names_counts(service: httpx.Client) -> None:
    """As in every common parser; the answer is never half of both."""
    content = b'{"model": "no", "model": "demo", "prompt": "The", "max_tokens": 9, "max_tokens": 1}'
    answer = service.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.json()["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_wrong_content_type_is_refused(service: httpx.Client, kind: str | None) -> None:
    """A form, which any page could send, is not taken for JSON."""
    headers = {} if kind is None else {"content-type": kind}
    answer = service.post("/v1/completions", content=json.dumps(_COMPLETION), headers=headers)
    assert answer.status_code == 400
    assert "Content-Type" in answer.json()["error"]["message"]


def test_null_parameters_are_not_given(service: httpx.Client) -> None:
    """Clients that send every field they know get the answer of those that send none."""
    nulls = dict.fromkeys(("n", "stop", "seed", "logit_bias", "tools", "response_format", "no_such_thing"))
    plain, padded = (service.post("/v1/chat/completions", json=_CHAT | extra).json() for extra in ({}, nulls))
    assert plain["choices"] == padded["choices"]


def test_message_parts_and_developer_role_are_understood(service: httpx.Client) -> None:
    """A list of text parts equals their concatenation; developer equals system."""
    plain = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}]
    parts = [
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
    ]
    answers = [
        service.post("/v1/chat/completions", json=_CHAT | {"messages": turns}).json() for turns in (plain, parts)
    ]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"]["prompt_tokens"] == answers[1]["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/completions", 405),
        ("OPTIONS", "/v1/completions", 405),
        ("PATCH", "/v1/completions", 405),
        ("GET", "/nope", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/%00", 404),
        ("POST", "/readyz", 405),
    ],
)
def test_wrong_address_has_an_error_body(service: httpx.Client, method: str, path: str, status: int) -> None:
    """Even the router's own refusals have OpenAI's shape."""
    answer = service.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_tokens_there_and_back(service: httpx.Client) -> None:
    """/tokenize counts what usage counts, for prompts and conversations; /detokenize gives the text back."""
    text = "naïve 😀"
    found = service.post("/tokenize", json={"prompt": text, "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert found["max_model_len"] == service.get("/v1/models/demo").json()["max_model_len"]
    bare = service.post("/tokenize", json={"model": "demo", "prompt": text, "add_special_tokens": False}).json()
    assert bare["token_strs"] is None
    assert service.post("/detokenize", json={"tokens": bare["tokens"]}).json() == {"prompt": text}
    chat = service.post("/tokenize", json={"messages": _CHAT["messages"]}).json()
    assert chat["count"] == service.post("/v1/chat/completions", json=_CHAT).json()["usage"]["prompt_tokens"]
    assert service.post("/detokenize", json={"tokens": [1536]}).status_code == 400
    assert service.post("/tokenize", json={"model": "other", "prompt": "x"}).status_code == 404
