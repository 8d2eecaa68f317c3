"""The HTTP API of a real service process: shapes, limits, and an answer for every bad request."""

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


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", _COMPLETION), ("/v1/chat/completions", _CHAT)], ids=["completion", "chat"]
)
def test_stream_says_what_the_whole_answer_says(service: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """At temperature 0 both ways give one text, one finish reason in the last chunk, and the same usage."""
    whole = service.post(path, json=body).json()
    chunks = _stream(service, path, body | {"stream_options": {"include_usage": True}})
    *chunks, last = chunks
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    expected = whole["choices"][0]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + [expected["finish_reason"]]
    text = "".join(choice.get("text", "") or choice.get("delta", {}).get("content", "") for choice in choices)
    assert text == expected.get("text", expected.get("message", {}).get("content"))
    assert text
    assert len({chunk["id"] for chunk in [*chunks, last]}) == 1


def test_usage_is_absent_unless_asked_for(service: httpx.Client) -> None:
    """Without stream_options no chunk mentions usage."""
    assert not any("usage" in chunk for chunk in _stream(service, "/v1/completions", _COMPLETION))


def test_usage_adds_up_and_length_is_the_reason(service: httpx.Client) -> None:
    """max_tokens is exact."""
    body = service.post("/v1/completions", json=_COMPLETION | {"max_tokens": 3}).json()
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + 3
    assert body["choices"][0]["finish_reason"] == "length"


def test_stop_string_ends_the_text_before_it(service: httpx.Client) -> None:
    """A stop string taken from inside the text, across token borders, ends it there, streamed or not."""
    text = service.post("/v1/completions", json=_COMPLETION).json()["choices"][0]["text"]
    stop = text[len(text) // 2 : len(text) // 2 + 4]
    body = _COMPLETION | {"stop": stop}
    whole = service.post("/v1/completions", json=body).json()["choices"][0]
    assert whole["text"] == text[: text.index(stop)]
    assert whole["finish_reason"] == "stop"
    chunks = _stream(service, "/v1/completions", body)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]


def test_seed_reproduces(service: httpx.Client) -> None:
    """A seeded draw repeats, on whichever worker it lands."""
    body = _COMPLETION | {"temperature": 1.5, "seed": 11}
    texts = {service.post("/v1/completions", json=body).json()["choices"][0]["text"] for _ in range(4)}
    assert len(texts) == 1


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
        ({"prompt": ["a"]}, 400, "prompt"),
        ({"prompt": "\ud800"}, 400, "prompt"),
        ({"prompt": "a " * 5000}, 400, "context"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": "5"}, 400, "max_tokens"),
        ({"max_tokens": True}, 400, "max_tokens"),
        ({"temperature": -0.1}, 400, "temperature"),
        ({"temperature": 1e400}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"top_k": -2}, 400, "top_k"),
        ({"seed": 2**64}, 400, "seed"),
        ({"stop": ""}, 400, "stop"),
        ({"stop": ["a"] * 5}, 400, "stop"),
        ({"n": 2}, 400, "n"),
        ({"stream": "yes"}, 400, "stream"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"best_of": 2, "echo": True}, 400, "best_of, echo"),
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 50_000, b'{"model": 1' + b"1" * 5000])
def test_malformed_body_is_refused(service: httpx.Client, content: bytes) -> None:
    """Broken, empty, deep or absurd JSON is the client's error."""
    answer = service.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_large_body_is_refused(service: httpx.Client) -> None:
    """Over max_body_bytes: 413, announced or chunked."""
    headers = {"content-type": "application/json"}
    body = b" " * 1_100_000
    assert service.post("/v1/completions", content=body, headers=headers).status_code == 413
    assert service.post("/v1/completions", content=iter([body]), headers=headers).status_code == 413


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
    assert answers[0]["usage"] == answers[1]["usage"]


def test_models_lists_the_one_model(service: httpx.Client) -> None:
    """The list and the single view agree; another name is 404."""
    listed = service.get("/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == ["demo"]
    assert service.get("/v1/models/demo").json() == listed["data"][0]
    assert service.get("/v1/models/other").status_code == 404


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/completions", 405), ("GET", "/nope", 404)])
def test_wrong_address_has_an_error_body(service: httpx.Client, method: str, path: str, status: int) -> None:
    """Even the router's own refusals have OpenAI's shape."""
    answer = service.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_metrics_count_each_request_once_over_all_workers(service: httpx.Client) -> None:
    """Ten requests on fresh connections raise the counters by ten, wherever they landed."""

    def counted() -> float:
        lines = service.get("/metrics").text.splitlines()
        prefix = 'token_service_request_success_total{finished_reason="length"}'
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(prefix))

    before = counted()
    for _ in range(10):
        service.post("/v1/completions", json=_COMPLETION | {"max_tokens": 1}, headers={"connection": "close"})
    assert counted() == before + 10
