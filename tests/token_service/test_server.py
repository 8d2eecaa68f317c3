"""The processes: draining, vanished clients, full queues, crashed and hung engines, refused starts."""

from __future__ import annotations

import json
import os
import signal
import socket
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


def _children(parent: int, word: str = "") -> list[int]:
    """Return the child processes of `parent`, those with `word` in their command line."""
    try:
        tasks = list(Path(f"/proc/{parent}/task").iterdir())
        found = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        return [pid for pid in found if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except OSError:  # one of them has just ended
        return []


def _engine(process: subprocess.Popen[bytes]) -> int:
    return _children(process.pid, "token_service.engine")[0]


def _workers(process: subprocess.Popen[bytes]) -> list[int]:
    return _children(_children(process.pid, "token_service.server")[0])


def _family(process: subprocess.Popen[bytes]) -> list[int]:
    """Return every process of the service."""
    found, new = [process.pid], [process.pid]
    while new:
        new = [child for pid in new for child in _children(pid)]
        found += new
    return found


def _gone(pids: list[int]) -> bool:
    def running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    return not any(running(pid) for pid in pids)


def _serves(client: httpx.Client) -> bool:
    try:
        return bool(client.get("/readyz").status_code == 200)
    except httpx.TransportError:
        return False


def test_sigterm_drains(start: Start) -> None:
    """Readiness turns 503 at once, new requests are served while draining, a running stream ends whole, exit 0."""
    process, client = start(DRAIN_SECONDS="0.5", GRACEFUL_TIMEOUT="60")
    family = _family(process)
    long = _LONG | {"max_tokens": 600}  # side by side they outlast the drain on any machine
    texts: list[str] = []

    def read() -> None:
        texts.append(client.post("/v1/completions", json=long, timeout=90).text)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    _wait(lambda: _gauge(client, 'num_requests_running{model="demo"}') == 3)
    os.kill(process.pid, signal.SIGTERM)
    _wait(lambda: client.get("/readyz").status_code == 503, 1)
    late = client.post("/v1/completions", json={"model": "demo", "prompt": "Late", "max_tokens": 1})
    assert late.status_code == 200
    for thread in threads:
        thread.join()
    assert process.wait(timeout=60) == 0
    assert _gone(family)
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
    began = time.monotonic()
    _wait(lambda: _gauge(client, 'request_success_total{finished_reason="abort",model="demo"}') == 1)
    _wait(lambda: _gauge(client, 'num_requests_running{model="demo"}') == 0)
    assert time.monotonic() - began < 3
    assert _gauge(client, 'generation_tokens_total{model="demo"}') < 1000


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
    """After kill -9 of a worker a new one serves, on the same engine, which drops what the old one had asked for."""
    process, client = start()
    old, engine = _workers(process), _engine(process)
    with client.stream("POST", "/v1/completions", json=_LONG) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(old[0], signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(lines)
    _wait(lambda: bool(_workers(process)) and _workers(process) != old)
    _wait(lambda: _serves(client))
    assert client.post("/v1/completions", json=_LONG | {"stream": False, "max_tokens": 2}).status_code == 200
    assert _gauge(client, 'num_requests_running{model="demo"}') == 0
    assert _engine(process) == engine


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_crashed_engine_ends_the_service(start: Start, number: signal.Signals) -> None:
    """Streams get an error frame and no [DONE], /livez turns red within 2 s, then everything ends with status 70."""
    process, client = start(WORKERS="2")
    family = _family(process)
    with client.stream("POST", "/v1/completions", json=_LONG) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(_engine(process), number)
        rest = [line for line in lines if line]
    began = time.monotonic()
    _wait(lambda: client.get("/livez").status_code == 503, 2)
    assert time.monotonic() - began < 2
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "engine_failed"
    refused = client.post("/v1/completions", json=_LONG)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert process.wait(timeout=20) == 70
    _wait(lambda: _gone(family))


def test_engine_is_replaced_when_restarts_are_allowed(start: Start) -> None:
    """With ENGINE_RESTARTS the workers find the new engine; it is counted; the second crash ends the service."""
    process, client = start(ENGINE_RESTARTS="1")
    os.kill(_engine(process), signal.SIGKILL)
    _wait(lambda: client.get("/livez").status_code == 503)
    _wait(lambda: _serves(client), 60)
    assert client.post("/v1/completions", json=_LONG | {"stream": False, "max_tokens": 2}).status_code == 200
    assert client.get("/livez").status_code == 200
    assert _gauge(client, 'engine_restarts_total{model="demo"}') == 1
    os.kill(_engine(process), signal.SIGKILL)
    assert process.wait(timeout=20) == 70


def test_engine_that_gives_no_sign_of_life_is_ended(start: Start) -> None:
    """A stopped engine process: /livez turns red at once, and after STEP_TIMEOUT the supervisor ends it."""
    process, client = start(STEP_TIMEOUT="3")
    engine = _engine(process)
    os.kill(engine, signal.SIGSTOP)
    _wait(lambda: client.get("/livez").status_code == 503, 4)
    assert client.get("/readyz").status_code == 503
    assert process.wait(timeout=30) == 70
    assert _gone([engine])


def test_hung_forward_pass_is_detected(start: Start) -> None:
    """The engine's own watchdog ends it after STEP_TIMEOUT: its neighbours get an error frame too, nobody waits on."""
    process, client = start(engine="tests.token_service.engine.hanging", STEP_TIMEOUT="2")
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(client.post("/v1/completions", json=_LONG).text))
    thread.start()
    _wait(lambda: _gauge(client, 'num_requests_running{model="demo"}') == 1)
    hung = client.post("/v1/completions", json={"model": "demo", "prompt": [7, 8, 9]})
    thread.join()
    assert hung.json()["error"]["code"] == "engine_failed"
    assert '"engine_failed"' in texts[0]
    assert "[DONE]" not in texts[0]
    assert client.get("/livez").status_code == 503
    assert process.wait(timeout=20) == 70


def test_environment_is_part_of_readiness(start: Start, tmp_path: Path) -> None:
    """The lock that the environment was made from is fine; one that wants another version is named and not ready."""
    python, lock = f"{sys.base_prefix}/bin/python", Path(sys.base_prefix) / "conda-meta" / "lock.txt"
    wrong = tmp_path / "lock.txt"
    wrong.write_text(lock.read_text().replace("/orjson-3", "/orjson-4"))
    _, client = start(python=python, LOCK_FILE=str(lock), ENVIRONMENT_CHECK="imports")
    assert _gauge(client, 'environment_ok{model="demo"}') == 1
    _, client = start(python=python, until="/livez", LOCK_FILE=str(wrong), ENVIRONMENT_CHECK="versions")
    _wait(lambda: "orjson" in client.get("/readyz").text, 60)
    assert client.get("/readyz").status_code == 503
    assert _gauge(client, 'environment_ok{model="demo"}') == 0


def test_folder_of_somebody_else_is_not_used(demo: Path, tmp_path: Path) -> None:
    """Another user of the machine must not prepare the folder of our sockets."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    done = _run(MODEL_DIR=str(demo), RUN_DIR=str(tmp_path / "run"), PORT=_port())
    assert done.returncode == 1
    assert "others may enter" in done.stderr


def test_everything_leaves_when_the_supervisor_is_killed(start: Start) -> None:
    """Nobody would restart or stop an orphan."""
    process, _ = start(WORKERS="2")
    _wait(lambda: len(_workers(process)) == 2)  # one of them already makes the service ready
    family = _family(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _wait(lambda: _gone(family))


def test_two_models_have_an_engine_each(start: Start, demo: Path) -> None:
    """Both are listed and answer under their names; the crash of one ends the service as a whole."""
    process, client = start(MODEL_DIR="", MODELS=f"first={demo},second={demo}")
    assert len(_children(process.pid, "token_service.engine")) == 2
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["first", "second"]
    texts = [
        client.post("/v1/completions", json={"model": name, "prompt": "The", "temperature": 0}).json()["choices"][0]
        for name in ("first", "second")
    ]
    assert texts[0] == texts[1]
    assert client.post("/v1/completions", json={"model": "third", "prompt": "The"}).status_code == 404
    assert _gauge(client, 'prompt_tokens_total{model="second"}') > 0


def test_taken_port_refuses_to_start(demo: Path, tmp_path: Path) -> None:
    """Before anything heavy loads, with the address and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = _run(MODEL_DIR=str(demo), HOST="127.0.0.1", PORT=port, RUN_DIR=str(tmp_path / "run"))
    assert done.returncode == 1
    assert port in done.stderr
    assert "TOKEN_SERVICE_PORT" in done.stderr


def test_scratch_folder_is_private_and_wiped(start: Start, tmp_path: Path) -> None:
    """Nobody else may talk to an engine; what an earlier run counted is gone."""
    _, client = start(RUN_DIR=str(tmp_path / "run"))
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "run").glob("*.sock")] == [0o600]
    assert _gauge(client, 'generation_tokens_total{model="demo"}') == 0


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


def _port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


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
    done = _run(MODEL_DIR=str(folder), RUN_DIR=str(folder.parent / "run"), PORT=_port())
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
    done = _run(MODEL_DIR=str(folder), RUN_DIR=str(folder.parent / "run"), PORT=_port())
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
