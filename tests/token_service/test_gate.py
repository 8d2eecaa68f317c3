"""What every request passes: keys, ids, limits, logs."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from token_service import keys

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.token_service.conftest import Start

_BODY = {"model": "demo", "prompt": "The xylophone", "max_tokens": 1}


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _records(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_keys_guard_all_but_health(start: Start, tmp_path: Path) -> None:
    """401 without a known key on every route but health; the log names the key that was used and holds none."""
    file = tmp_path / "keys"
    file.write_text(f"{keys.line('old', 'sk-old')}\n{keys.line('new', 'sk-new')}\n")
    metrics = tmp_path / "metrics-keys"
    metrics.write_text(keys.line("prometheus", "sk-metrics"))
    _, client = start(API_KEYS_FILE=str(file), METRICS_KEYS_FILE=str(metrics))
    for header in ({}, _bearer("wrong"), {"authorization": "Basic c2stb2xk"}, {"authorization": "Bearer"}):
        for path in ("/v1/models", "/nope", "/version", "/docs", "/openapi.json", "/metrics"):
            assert client.get(path, headers=header).status_code == 401
        refused = client.post("/v1/completions", json=_BODY, headers=header)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
    for key in ("sk-old", "sk-new"):
        assert client.post("/v1/completions", json=_BODY, headers=_bearer(key)).status_code == 200
        assert client.get("/metrics", headers=_bearer(key)).status_code == 401
    assert client.get("/metrics", headers=_bearer("sk-metrics")).status_code == 200
    assert client.get("/v1/models", headers=_bearer("sk-metrics")).status_code == 401
    for path in ("/livez", "/readyz"):
        assert client.get(path).status_code == 200

    page = client.get("/docs")
    assert page.headers["www-authenticate"].startswith("Basic ")
    assert client.get("/docs", auth=("anything", "sk-old")).status_code == 200
    assert client.get("/openapi.json", auth=("", "sk-old")).json()["components"]["securitySchemes"]
    assert client.get("/v1/models", auth=("anything", "sk-old")).status_code == 401

    log = tmp_path / "service-0.log"
    assert {record.get("key") for record in _records(log) if record.get("status") == 200} >= {"old", "new"}
    assert "sk-" not in log.read_text()


def test_open_service_says_so_and_keeps_prompts_out_of_the_log(start: Start, tmp_path: Path) -> None:
    """Without a key file the log warns once; neither prompt nor generated text is in it, not even of refused ones."""
    _, client = start()
    client.post("/v1/completions", json=_BODY)
    client.post("/v1/completions", json=_BODY | {"wrong": 3})
    log = tmp_path / "service-0.log"
    assert [record["level"] for record in _records(log) if "no API key file" in record["message"]] == ["warning"]
    assert "xylophone" not in log.read_text()


def test_prompts_are_logged_when_asked(start: Start, tmp_path: Path) -> None:
    """LOG_PROMPTS writes prompt and text under the request's id."""
    _, client = start(LOG_PROMPTS="true")
    answer = client.post("/v1/completions", json=_BODY, headers={"x-request-id": "mine-1"})
    found = [r for r in _records(tmp_path / "service-0.log") if r["logger"] == "token_service.prompts"]
    assert [record["request_id"] for record in found] == ["mine-1", "mine-1"]
    assert found[0]["prompt"] == _BODY["prompt"]
    assert found[1]["texts"] == [answer.json()["choices"][0]["text"]]


@pytest.mark.parametrize(("sent", "kept"), [("trace/7f:1", True), ("x" * 129, False), ("a b", False), ("", False)])
def test_sane_request_ids_are_kept(service: httpx.Client, sent: str, kept: bool) -> None:  # noqa: FBT001
    """Any other is replaced: it goes into logs and headers."""
    found = service.get("/livez", headers={"x-request-id": sent}).headers["x-request-id"]
    assert (found == sent) is kept
    assert kept or re.fullmatch(r"req-[0-9a-f]{16}", found)


def test_large_body_is_refused(service: httpx.Client) -> None:
    """Over max_body_bytes: 413 with an error body, announced or chunked."""
    headers = {"content-type": "application/json"}
    body = b" " * 1_100_000
    for content in (body, iter([body[:600_000], body[600_000:]])):
        answer = service.post("/v1/completions", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_body_that_trickles_is_given_up(start: Start) -> None:
    """A client that sends half a body and waits gets 408 instead of a connection for ever."""
    _, client = start(REQUEST_TIMEOUT="0.5")
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        connection.sendall(head.encode())
        answer = connection.recv(10_000).decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert "body_too_slow" in answer


def test_cross_origin_pages_need_permission(start: Start, service: httpx.Client) -> None:
    """No page of another origin may call unless it is listed; a listed one may ask without a key."""
    ask = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in service.options("/v1/models", headers=ask).headers
    _, client = start(CORS_ORIGINS="https://app.example")
    assert client.options("/v1/models", headers=ask).headers["access-control-allow-origin"] == ask["origin"]
    assert client.get("/v1/models", headers=ask).headers["access-control-allow-origin"] == ask["origin"]
    other = client.options("/v1/models", headers=ask | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
