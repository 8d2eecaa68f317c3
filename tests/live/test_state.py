"""Models, health and metrics of the deployed service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx
    import openai


def test_models_are_listed(api: openai.OpenAI, model: str) -> None:
    """The served model is in the list and can be asked for."""
    assert model in [entry.id for entry in api.models.list()]
    assert api.models.retrieve(model).id == model


def test_service_is_alive_and_ready(http: httpx.Client) -> None:
    """Readiness has made a forward pass."""
    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").json() == {"status": "ready"}


def test_metrics_count_requests(http: httpx.Client, model: str) -> None:
    """Ended requests show up.

    A balancer may show each replica's own count: three requests between two looks reach every one of two replicas.
    """

    def counted() -> float:
        lines = http.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("token_service_request_success"))

    body = {"model": model, "prompt": "The", "max_tokens": 1}
    before = max(counted() for _ in range(5))
    deadline = time.monotonic() + 10
    while counted() <= before:
        assert time.monotonic() < deadline, f"still {before} ended requests"
        for _ in range(3):
            assert http.post("/v1/completions", json=body).status_code == 200
