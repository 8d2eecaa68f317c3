"""What the service refuses, and how."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (openai.NotFoundError, {"model": "no-such-model"}),
        (openai.BadRequestError, {"max_tokens": 10_000_000}),
        (openai.BadRequestError, {"temperature": 3}),
        (openai.BadRequestError, {"max_tokens": 0}),
        (openai.BadRequestError, {"n": 2}),
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"'])
def test_malformed_body_is_400(http: httpx.Client, content: bytes) -> None:
    """Never 500."""
    answer = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_missing_messages_are_named(http: httpx.Client, model: str) -> None:
    """400 with the parameter's name."""
    answer = http.post("/v1/chat/completions", json={"model": model})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize("key", [None, "wrong"])
def test_wrong_key_is_401(http: httpx.Client, key: str | None) -> None:
    """Every route but health and metrics wants the key; skipped where the service is open."""
    if "authorization" not in http.headers:
        pytest.skip("SLIPWAY_API_KEY is not set: the service is open")
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=http.base_url, headers=headers) as stranger:
        assert stranger.get("/v1/models").status_code == 401
        assert [stranger.get(path).status_code for path in ("/livez", "/readyz", "/metrics")] == [200, 200, 200]
