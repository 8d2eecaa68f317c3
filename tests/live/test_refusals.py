"""What the service refuses, and how."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Target

_LONGEST_ERROR = 2000


def _check_error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the error object of an answer, after checking that it is one, and small."""
    assert answer.status_code == status, answer.text
    assert len(answer.content) < _LONGEST_ERROR
    assert answer.headers["content-type"].startswith("application/json")
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert not any(trace in answer.text for trace in ("Traceback", 'File \\"', "site-packages", "/opt/", "/usr/"))
    return error


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (openai.NotFoundError, {"model": "no-such-model"}),
        (openai.BadRequestError, {"max_tokens": 10_000_000}),
        (openai.BadRequestError, {"temperature": 3}),
        (openai.BadRequestError, {"max_tokens": 0}),
        (openai.BadRequestError, {"n": 0}),
        (openai.BadRequestError, {"extra_body": {"no_such_parameter": 1}}),
    ],
)
def test_bad_parameter_raises_the_clients_error(
    api: openai.OpenAI, model: str, kind: type[openai.APIStatusError], change: dict[str, Any]
) -> None:
    """The client sees the right exception with a message, and the next request works."""
    asked: Any = {"model": model, "prompt": "The", "max_tokens": 2}
    with pytest.raises(kind) as caught:
        api.completions.create(**asked | change)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]
    assert api.completions.create(**asked).choices[0].finish_reason


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("prompt", []),
        ("prompt", [[]]),
        ("prompt", [1, "two"]),
        ("prompt", [-1]),
        ("prompt", [10**9]),
        ("prompt", 5),
        ("max_tokens", -1),
        ("max_tokens", "5"),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_tokens", 10**30),
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -2),
        ("min_p", 2),
        ("n", 129),
        ("n", "many"),
        ("stop", [""]),
        ("stop", ["a"] * 5),
        ("stop", 7),
        ("seed", 2**64),
        ("seed", 0.5),
        ("logprobs", 21),
        ("logprobs", -1),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("repetition_penalty", 0),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"999999999": 1}),
        ("logit_bias", [1]),
        ("stream", "yes"),
        ("echo", 1),
        ("response_format", {"type": "json_object"}),
        ("user", 7),
    ],
)
def test_value_out_of_range_is_named(http: httpx.Client, model: str, param: str, value: object, stream: bool) -> None:  # noqa: FBT001
    """400 before anything is streamed, with the parameter at fault."""
    body = {"model": model, "prompt": "The", "max_tokens": 2, "stream": stream} | {param: value}
    error = _check_error(http.post("/v1/completions", json=body), 400)
    assert str(error["param"]).partition("[")[0].partition(".")[0] == param, error
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
def test_prompt_over_the_context_is_400(http: httpx.Client, model: str, stream: bool) -> None:  # noqa: FBT001
    """With OpenAI's code; the next request works."""
    body = {"model": model, "prompt": "The", "max_tokens": 2, "stream": stream}
    context = http.get(f"/v1/models/{model}").json()["max_model_len"]
    long = http.post("/v1/completions", json=body | {"prompt": [5] * (context + 1)})
    assert _check_error(long, 400)["code"] == "context_length_exceeded"
    together = http.post("/v1/completions", json=body | {"prompt": [5] * (context - 1)})
    assert _check_error(together, 400)["code"] == "context_length_exceeded"
    assert http.post("/v1/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe\x00",
        b'{"model": NaN}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 10_000,
        b"1" * 100_000,
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
def test_malformed_body_is_400(http: httpx.Client, content: bytes, path: str) -> None:
    """Never 500."""
    answer = http.post(path, content=content, headers={"content-type": "application/json"})
    _check_error(answer, 400)


@pytest.mark.parametrize("chunked", [False, True])
def test_large_body_is_413(http: httpx.Client, chunked: bool) -> None:  # noqa: FBT001
    """Whether its length is announced or not."""
    size, part = 80, b"x" * (1 << 20)
    content: Any = (part for _ in range(size)) if chunked else part * size
    try:
        answer = http.post("/v1/completions", content=content, headers={"content-type": "application/json"})
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        return  # refused while it was sent: what arrived is up to the network
    _check_error(answer, 413)


def test_missing_parameters_are_named(http: httpx.Client, model: str) -> None:
    """400 with the parameter's name."""
    for path, param in (("/v1/chat/completions", "messages"), ("/v1/completions", "prompt")):
        assert _check_error(http.post(path, json={"model": model}), 400)["param"] == param
    assert _check_error(http.post("/v1/completions", json={"prompt": "The"}), 400)["param"] == "model"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{}],
        [{"role": "user"}],
        [{"role": "nobody", "content": "x"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": 5}],
        "hello",
        [["user", "hello"]],
    ],
)
def test_bad_messages_are_400(http: httpx.Client, model: str, messages: object) -> None:
    """Each named by where it is."""
    answer = http.post("/v1/chat/completions", json={"model": model, "messages": messages})
    assert str(_check_error(answer, 400)["param"]).startswith("messages")


def test_unknown_parameters_are_refused_by_name(http: httpx.Client, model: str) -> None:
    """Never silently ignored, wherever they are."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "tools": [], "best_of": 2}
    error = _check_error(http.post("/v1/chat/completions", json=body), 400)
    assert error["code"] == "unknown_parameter"
    assert "tools" in error["message"]
    assert "best_of" in error["message"]


def test_long_names_and_values_do_not_make_long_errors(http: httpx.Client) -> None:
    """Errors are bounded in size whatever was sent."""
    body = {"model": "m" * 100_000, "prompt": "The", "p" * 100_000: 1} | {f"q{number}": 1 for number in range(1000)}
    _check_error(http.post("/v1/completions", content=json.dumps(body)), 400)
    _check_error(http.post("/v1/completions", json={"model": "m" * 100_000, "prompt": "The"}), 404)
    _check_error(http.get("/" + "x" * 5000), 404)


def test_unknown_routes_and_methods_have_error_bodies(http: httpx.Client) -> None:
    """404 and 405 as everything else."""
    _check_error(http.get("/v1/nothing"), 404)
    _check_error(http.get("/v1/models/nobody"), 404)
    assert "POST" in http.get("/v1/completions").headers["allow"]
    _check_error(http.get("/v1/completions"), 405)
    _check_error(http.delete("/v1/models"), 405)


@pytest.mark.parametrize("key", [None, "wrong", "", "Ünïcode", "x" * 5000])
def test_wrong_key_is_401(target: Target, http: httpx.Client, key: str | None) -> None:
    """Every route but health wants the key; skipped where the service is open."""
    if "authorization" not in http.headers:
        pytest.skip("SLIPWAY_API_KEY is not set: the service is open")
    headers = [] if key is None else [(b"authorization", f"Bearer {key}".strip().encode())]
    with httpx.Client(base_url=target.url, headers=headers) as stranger:
        for path in ("/v1/models", "/v1/models/x", "/version", "/docs", "/openapi.json", "/nothing"):
            answer = stranger.get(path)
            assert answer.status_code == 401, path
            assert "www-authenticate" in answer.headers
        for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
            _check_error(stranger.post(path, json={}), 401)
        assert [stranger.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_wrong_key_raises_the_clients_error(target: Target, http: httpx.Client) -> None:
    """The client's own exception."""
    if "authorization" not in http.headers:
        pytest.skip("SLIPWAY_API_KEY is not set: the service is open")
    with (
        openai.OpenAI(base_url=f"{target.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
