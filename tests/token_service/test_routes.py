"""The HTTP API of a real service process: shapes, limits, and an answer for every bad request."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.token_service.conftest import Start

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"

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


def test_context_is_usable_to_the_last_token(service: httpx.Client) -> None:
    """Prompt plus max_tokens may fill the context exactly; one more is refused and the next request works."""
    body = _COMPLETION | {"prompt": "a b" * 300}
    prompt = service.post("/v1/completions", json=body | {"max_tokens": 1}).json()["usage"]["prompt_tokens"]
    room = service.get("/v1/models/demo").json()["max_model_len"] - prompt
    refused = service.post("/v1/completions", json=body | {"max_tokens": room + 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert service.post("/v1/completions", json=body | {"max_tokens": room}).status_code == 200


def _by_index(chunks: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found.setdefault(choice["index"], []).append(choice)
    return found


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


def test_models_lists_the_one_model(service: httpx.Client) -> None:
    """The list and the single view agree; another name is 404."""
    listed = service.get("/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == ["demo"]
    assert service.get("/v1/models/demo").json() == listed["data"][0]
    assert service.get("/v1/models/other").status_code == 404


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


def test_health_answers_head_requests(service: httpx.Client) -> None:
    """Some load balancers ask that way."""
    assert [service.head(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert service.get("/readyz").json() == {"status": "ready", "models": {"demo": "ready"}}
    assert service.get("/version").json()["version"]


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


def test_metrics_count_each_request_once_over_all_workers(service: httpx.Client) -> None:
    """Ten requests on fresh connections raise the counters by ten, wherever they landed."""

    def counted() -> float:
        lines = service.get("/metrics").text.splitlines()
        prefix = 'token_service_request_success_total{finished_reason="length",model="demo"}'
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(prefix))

    before = counted()
    for _ in range(10):
        service.post("/v1/completions", json=_COMPLETION | {"max_tokens": 1}, headers={"connection": "close"})
    assert counted() == before + 10


def test_refusals_are_counted_by_reason(service: httpx.Client) -> None:
    """Each once, under the reason a dashboard can act on."""

    def counted() -> dict[str, float]:
        lines = [line for line in service.get("/metrics").text.splitlines() if "requests_rejected_total{" in line]
        return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines}

    before = counted()
    service.post("/v1/completions", json=_COMPLETION | {"n": 0})
    service.post("/v1/completions", json=_COMPLETION | {"max_tokens": 5000})
    service.post("/v1/completions", json=_COMPLETION | {"model": "other"})
    service.post("/v1/completions", content=b" " * 1_100_000)
    service.get("/nope")
    after = counted()
    reasons = ("invalid", "context", "model", "body", "other")
    assert [after[reason] - before.get(reason, 0) for reason in reasons] == [1] * 5


def test_build_is_described(service: httpx.Client) -> None:
    """Version and checksum of the model, on every worker's answer alike."""
    (line,) = [row for row in service.get("/metrics").text.splitlines() if row.startswith("token_service_build_info{")]
    assert 'model="demo"' in line
    assert f'model_sha256="{hashlib.sha256((DEMO / "manifest.json").read_bytes()).hexdigest()}"' in line


def test_several_models_need_names(start: Start) -> None:
    """Each answers under its own name; where a model may be left out, it may not among several."""
    _, client = start(MODEL_DIR="", MODELS=f"one={DEMO},two={DEMO}")
    assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["one", "two"]
    for name in ("one", "two"):
        assert client.post("/v1/completions", json=_COMPLETION | {"model": name}).json()["model"] == name
    assert client.post("/v1/completions", json=_COMPLETION).status_code == 404
    assert client.post("/tokenize", json={"prompt": "x"}).json()["error"]["param"] == "model"
