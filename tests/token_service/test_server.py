"""The gunicorn process: draining, vanished clients, full queues, killed processes, refused starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.token_service.conftest import Start

_LONG = {"model": "demo", "prompt": "The", "max_tokens": 1000, "temperature": 1, "top_p": 1, "stream": True}


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until `condition` holds, at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s")
        time.sleep(0.02)


def _gauge(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"token_service_{name} "))


def _workers(master: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def test_sigterm_drains(start: Start) -> None:
    """Readiness turns 503 at once, new requests are served while draining, a running stream ends whole, exit 0."""
    process, client = start(DRAIN_SECONDS="0.5", GRACEFUL_TIMEOUT="60")
    long = _LONG | {"max_tokens": 600}  # side by side they outlast the drain on any machine
    texts: list[str] = []

    def read() -> None:
        texts.append(client.post("/v1/completions", json=long, timeout=90).text)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    _wait(lambda: _gauge(client, "num_requests_running") == 3)
    os.kill(process.pid, signal.SIGTERM)
    _wait(lambda: client.get("/readyz").status_code == 503, 1)
    late = client.post("/v1/completions", json={"model": "demo", "prompt": "Late", "max_tokens": 1})
    assert late.status_code == 200
    for thread in threads:
        thread.join()
    assert process.wait(timeout=60) == 0
    for text in texts:
        assert text.rstrip().endswith("data: [DONE]")
        assert text.count('"finish_reason":"') == 1


@pytest.mark.parametrize("streamed", [True, False])
def test_vanished_client_stops_generation(start: Start, *, streamed: bool) -> None:
    """A client that leaves frees its slot long before its tokens are made, streaming or not."""
    _, client = start()
    body = _LONG | {"stream": streamed, "max_tokens": 1020}
    if streamed:
        with client.stream("POST", "/v1/completions", json=body) as answer:
            next(answer.iter_lines())  # and leave
    else:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/completions", json=body, timeout=0.1)
    _wait(lambda: _gauge(client, 'request_success_total{finished_reason="abort"}') == 1)
    assert _gauge(client, "num_requests_running") == 0
    assert _gauge(client, "generation_tokens_total") < 1000


def test_full_queue_answers_429_at_once(start: Start) -> None:
    """One slot, no waiting place: the second request gets Retry-After and the service stays ready."""
    _, client = start(MAX_RUNNING="1", MAX_WAITING="0")
    with client.stream("POST", "/v1/completions", json=_LONG) as first:
        lines = first.iter_lines()
        next(lines)
        refused = client.post("/v1/completions", json=_LONG | {"max_tokens": 1})
        ready = client.get("/readyz")
    assert (refused.status_code, ready.status_code) == (429, 200)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"


def test_killed_worker_is_replaced(start: Start) -> None:
    """After kill -9 of a worker a new one serves, forked from the same loaded model, and gauges forget the dead."""
    process, client = start()
    old = _workers(process.pid)
    os.kill(old[0], signal.SIGKILL)
    _wait(lambda: bool(_workers(process.pid)) and _workers(process.pid) != old)

    def serves() -> bool:
        try:
            return bool(client.get("/readyz").status_code == 200)
        except httpx.TransportError:
            return False

    _wait(serves)
    assert client.post("/v1/completions", json=_LONG | {"stream": False, "max_tokens": 2}).status_code == 200
    assert _gauge(client, "num_requests_running") == 0


def test_workers_leave_when_the_master_is_killed(start: Start) -> None:
    """Nobody would restart or stop an orphan."""
    process, _ = start(WORKERS="2")
    _wait(lambda: len(_workers(process.pid)) == 2)  # one of them already makes the service ready
    workers = _workers(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_log_is_json_without_prompts(start: Start, tmp_path: Path) -> None:
    """Every line parses; neither prompt nor generated text is in it."""
    process, client = start()
    client.post("/v1/completions", json={"model": "demo", "prompt": "xylophone secret", "max_tokens": 3})
    client.post("/v1/completions", json={"model": "demo", "prompt": "xylophone secret", "wrong": 3})
    process.terminate()
    assert process.wait(timeout=30) == 0
    text = (tmp_path / "service-0.log").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [r["status"] for r in records if r["logger"] == "token_service.access"] == [200, 400]
    assert "xylophone" not in text


def _run(**values: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TOKEN_SERVICE_")}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    environment |= {f"TOKEN_SERVICE_{name}": value for name, value in values.items()}
    command = [sys.executable, "-m", "token_service"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_changed_model_refuses_to_start(folder: Path) -> None:
    """One missing byte: status 1, one message with file, both hashes and the way out, no traceback."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = _run(MODEL_DIR=str(folder), METRICS_DIR=str(folder.parent / "metrics"))
    assert done.returncode == 1
    assert str(weights) in done.stderr
    assert done.stderr.count("sha256") == 2
    assert "Traceback" not in done.stderr


def test_folder_that_is_no_model_refuses_to_start(folder: Path) -> None:
    """A vouched-for folder which transformers cannot load is one message too."""
    (folder / "config.json").write_text('{"model_type": "no-such-model"}')
    subprocess.run(
        [sys.executable, "-m", "token_service.manifest", "--write", str(folder)],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")},
    )
    done = _run(MODEL_DIR=str(folder), METRICS_DIR=str(folder.parent / "metrics"))
    assert done.returncode == 1
    assert "cannot load a causal language model" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_setting_is_reported_before_anything_heavy_loads(demo: Path) -> None:
    """Status 1 and the name, without importing torch."""
    started = time.monotonic()
    done = _run(MODEL_DIR=str(demo), WORKERS="many")
    assert done.returncode == 1
    assert "TOKEN_SERVICE_WORKERS" in done.stderr
    assert time.monotonic() - started < 2
