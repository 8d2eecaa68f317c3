"""API keys guard every route except health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.token_service.conftest import Start

_BODY = {"model": "demo", "prompt": "The", "max_tokens": 1}


@pytest.fixture
def guarded(start: Start, tmp_path: Path) -> httpx.Client:
    """A service that knows two keys."""
    keys = tmp_path / "keys"
    keys.write_text("old-key\nnew-key\n")
    _, client = start(API_KEY_FILE=str(keys))
    return client


def test_key_guards_all_but_health_and_metrics(guarded: httpx.Client) -> None:
    """No key, a wrong one or another scheme is 401; each known key works; the log holds none of them."""
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic old-key"}):
        for path in ("/v1/models", "/openapi.json", "/nope"):
            assert guarded.get(path, headers=header).status_code == 401
        refused = guarded.post("/v1/completions", json=_BODY, headers=header)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
    for key in ("old-key", "new-key"):
        answer = guarded.post("/v1/completions", json=_BODY, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].startswith("req-")
    for path in ("/livez", "/readyz", "/metrics"):
        assert guarded.get(path).status_code == 200
