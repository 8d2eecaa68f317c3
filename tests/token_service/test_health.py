"""The service about itself: models, health, metrics."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

    from tests.token_service.conftest import Start

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
_COMPLETION = {"model": "demo", "prompt": "The", "max_tokens": 12, "temperature": 0}
_CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}


def test_models_lists_the_one_model(service: httpx.Client) -> None:
    """The list and the single view agree; another name is 404."""
    listed = service.get("/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == ["demo"]
    assert service.get("/v1/models/demo").json() == listed["data"][0]
    assert service.get("/v1/models/other").status_code == 404


def test_health_answers_head_requests(service: httpx.Client) -> None:
    """Some load balancers ask that way."""
    assert [service.head(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    assert service.get("/readyz").json() == {"status": "ready", "models": {"demo": "ready"}}
    assert service.get("/version").json()["version"]


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
