"""Models, health, documents, request ids and metrics of the deployed service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    import openai

    from tests.live.conftest import Metrics, Target


def test_models_are_listed(api: openai.OpenAI, model: str) -> None:
    """The served model is in the list and can be asked for."""
    assert model in [entry.id for entry in api.models.list()]
    assert api.models.retrieve(model).id == model


def test_service_is_alive_and_ready(http: httpx.Client, model: str) -> None:
    """Readiness has made a forward pass of every model."""
    alive, ready = http.get("/livez"), http.get("/readyz")
    assert (alive.status_code, ready.status_code) == (200, 200)
    assert ready.json()["status"] == "ready"
    assert ready.json()["models"][model] == "ready"


def test_version_is_told(http: httpx.Client) -> None:
    """A version like 1.2.3."""
    assert re.match(r"\d+\.\d+", http.get("/version").json()["version"])


def test_openapi_document_lists_the_routes(http: httpx.Client) -> None:
    """With their refusals."""
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    wanted = {
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/models",
        "/tokenize",
        "/detokenize",
        "/version",
        "/metrics",
    }
    assert wanted <= set(document["paths"])
    assert {"200", "400", "401", "429", "503"} <= set(document["paths"]["/v1/completions"]["post"]["responses"])


def test_documentation_is_a_page_without_outside_resources(http: httpx.Client) -> None:
    """HTML that mentions every parameter and loads nothing."""
    page = http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert all(name in page.text for name in ("max_tokens", "repetition_penalty", "/v1/chat/completions"))


def test_request_id_is_kept_when_it_is_sane(http: httpx.Client) -> None:
    """A client's own id comes back; one that is not sane is replaced; without one the service makes one."""
    own = http.get("/version", headers={"x-request-id": "abc-123"})
    assert own.headers["x-request-id"] == "abc-123"
    for bad in ("a b\tc", "x" * 1000, "<script>"):
        assert http.get("/version", headers={"x-request-id": bad}).headers["x-request-id"] not in (bad, "")
    ids = {http.get("/version").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_other_origins_get_no_permission(http: httpx.Client) -> None:
    """CORS is off unless told: a browser will not show answers to a stranger's page."""
    answer = http.get("/v1/models", headers={"origin": "https://stranger.example"})
    assert answer.headers.get("access-control-allow-origin") != "*"
    assert "stranger" not in answer.headers.get("access-control-allow-origin", "")


def test_each_request_is_counted_once(http: httpx.Client, metrics: Metrics, model: str) -> None:
    """Whole, streamed, refused: by route and status, with tokens as usage tells them, over all replicas."""
    metrics.require_quiet()
    route = 'route="/v1/completions"'
    before, answered = metrics.totals(), {status: metrics.totals(route, f'status="{status}"') for status in (200, 400)}
    body = {"model": model, "prompt": "The value", "max_tokens": 5, "temperature": 0}
    usage = [http.post("/v1/completions", json=body).json()["usage"] for _ in range(5)]
    for _ in range(3):
        assert http.post("/v1/completions", json=body | {"stream": True}).text.rstrip().endswith("[DONE]")
    for _ in range(2):
        assert http.post("/v1/completions", json=body | {"temperature": 9}).status_code == 400
    after = metrics.totals()
    counted = {
        status: metrics.totals(route, f'status="{status}"')["http_requests"] - seen["http_requests"]
        for status, seen in answered.items()
    }
    assert counted == {200: 8, 400: 2}
    difference = {name: value - before.get(name, 0) for name, value in after.items()}
    assert difference["request_success"] == 8
    assert difference["time_to_first_token_seconds_count"] == 8
    assert difference["e2e_request_latency_seconds_count"] == 8
    assert difference["request_queue_time_seconds_count"] == 8
    assert difference["generation_tokens"] == 8 * usage[0]["completion_tokens"]
    assert difference["prompt_tokens"] == 8 * usage[0]["prompt_tokens"]
    assert difference["requests_rejected"] == 2


def test_metrics_have_dashboards_names(metrics: Metrics) -> None:
    """Those of vLLM with the service's prefix."""
    names = metrics.totals()
    wanted = {
        *("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "build_info"),
        *(
            "time_to_first_token_seconds_count",
            "inter_token_latency_seconds_count",
            "e2e_request_latency_seconds_count",
        ),
        *("request_queue_time_seconds_count", "request_success", "prompt_tokens", "generation_tokens"),
    }
    assert wanted <= set(names)


def test_gauges_are_zero_when_nobody_asks(metrics: Metrics) -> None:
    """Nothing runs, nothing waits, nothing is held."""
    metrics.require_quiet()
    totals = metrics.totals()
    assert [totals[name] for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")] == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_needs_no_key(target: Target, path: str) -> None:
    """Balancers and orchestrators have none."""
    assert httpx.get(target.url + path, timeout=10).status_code == 200
