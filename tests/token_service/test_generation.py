"""Generation over HTTP: one text streamed or not, choices, seeds, deadlines, readers that do not read."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.token_service.conftest import Start

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


def _by_index(chunks: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found.setdefault(choice["index"], []).append(choice)
    return found


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
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] <= usage["prompt_tokens"]
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


def test_every_prompt_has_its_choices(service: httpx.Client) -> None:
    """Two prompts with three choices: six, in order, in one stream with one finish reason each; prompts count once."""
    body = _COMPLETION | {"prompt": [[1, 444], [1, 77, 78]], "n": 3, "temperature": 1, "seed": 5}
    whole = service.post("/v1/completions", json=body).json()
    assert [choice["index"] for choice in whole["choices"]] == list(range(6))
    streamed = _by_index(_stream(service, "/v1/completions", body))
    for choice in whole["choices"]:
        *others, last = streamed[choice["index"]]
        assert [entry["finish_reason"] for entry in others] == [None] * len(others)
        assert last["finish_reason"] == choice["finish_reason"]
        assert "".join(entry["text"] for entry in others) == choice["text"]
    assert len({choice["text"] for choice in whole["choices"]}) > 1
    assert whole["usage"]["prompt_tokens"] == 2 + 3


def test_choice_is_the_answer_to_its_own_seed(service: httpx.Client) -> None:
    """Choice i of seed s is choice 0 of seed s + i."""
    body = _COMPLETION | {"temperature": 1.2}
    choices = service.post("/v1/completions", json=body | {"n": 3, "seed": 40}).json()["choices"]
    alone = [service.post("/v1/completions", json=body | {"seed": 40 + i}).json()["choices"][0] for i in range(3)]
    assert [choice["text"] for choice in choices] == [choice["text"] for choice in alone]


def test_more_choices_than_places_are_refused(service: httpx.Client) -> None:
    """They could never run: 400, not 429."""
    body = _COMPLETION | {"prompt": ["The"] * 100, "n": 128}
    answer = service.post("/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


def test_logit_bias_rules(service: httpx.Client) -> None:
    """The end-of-sequence token can be forced and forbidden; an id outside the vocabulary is refused."""
    forced = service.post("/v1/completions", json=_COMPLETION | {"logit_bias": {"2": 100}}).json()
    assert (forced["choices"][0]["text"], forced["choices"][0]["finish_reason"]) == ("", "stop")
    body = _COMPLETION | {"logit_bias": {"2": -100}, "max_tokens": 200}
    assert service.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 200
    for identity in ("1536", "9999999999"):
        refused = service.post("/v1/completions", json=_COMPLETION | {"logit_bias": {identity: 1}})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logit_bias")


def test_deadline_ends_a_request(start: Start) -> None:
    """Not streamed: 504. Streamed: an error frame and no [DONE]. Nothing goes on generating."""
    _, client = start(REQUEST_TIMEOUT="0.2")
    long = _COMPLETION | {"max_tokens": 1000, "logit_bias": {"2": -100}}
    late = client.post("/v1/completions", json=long)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    for choices in (1, 2):
        text = client.post("/v1/completions", json=long | {"stream": True, "n": choices}).text
        assert json.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        assert "[DONE]" not in text
    assert 'request_success_total{finished_reason="deadline",model="demo"} 4.0' in client.get("/metrics").text
    assert client.post("/v1/completions", json=_COMPLETION | {"max_tokens": 1}).status_code == 200


def test_client_that_does_not_read_is_dropped(start: Start) -> None:
    """A stream left unread for send_timeout frees its places; with log probabilities it fills every buffer soon."""
    _, client = start(SEND_TIMEOUT="0.3")
    body = _COMPLETION | {"max_tokens": 1000, "logit_bias": {"2": -100}, "stream": True, "n": 8, "logprobs": 20}
    data = json.dumps(body).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.base_url.host, client.base_url.port or 80))
        connection.sendall(head % len(data) + data)
        deadline = time.monotonic() + 30
        while 'finished_reason="abort",model="demo"} 8.0' not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
