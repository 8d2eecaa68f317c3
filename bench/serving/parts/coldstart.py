"""From nothing to the first streamed token, as processes and as containers, against the requirements' reference."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING, Protocol

from bench.serving.container import Container, reference_image, service_image
from bench.serving.errors import BenchError
from bench.serving.load import send, streaming
from bench.serving.plan import Goal, Plan, goals_table
from bench.serving.process import DEMO, Server, get, python
from slipway.paths import ROOT
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.serving.report import Result

TITLE = "Cold start"
_LIMIT = 180
_BOUND, _RESPONSE_BOUND = 0.4, 0.3
_OK = 200
_REFERENCE = [
    *("-m", "gunicorn", "--workers=4", "--worker-class=uvicorn_worker.UvicornWorker", "--timeout=120"),
    *("--no-control-socket", "app:app"),
]


class _Side(Protocol):
    url: str

    def running(self) -> None: ...


def _first_token(side: _Side, model: str, began: float) -> float:
    """Return the seconds from `began` until a streamed token arrived.

    Raises:
        BenchError: none did within three minutes.
    """
    body = streaming(model, "The value of", 8)
    checked = time.monotonic()
    while time.monotonic() < began + _LIMIT:
        result = asyncio.run(send(side.url, body, leave_at_first=True, timeout=_LIMIT))
        if result.status == _OK and result.first is not None:
            return result.first - began
        if time.monotonic() > checked + 1:
            side.running()
            checked = time.monotonic()
        time.sleep(0.02)  # nothing tells when the port opens
    raise BenchError(f"no token within {_LIMIT} s")


def _response_after_ready(side: _Side, model: str) -> float:
    """Return the seconds of the first request that a client sends once `/readyz` says yes."""
    deadline = time.monotonic() + _LIMIT
    while get(side.url, "/readyz")[0] != _OK:
        if time.monotonic() > deadline:
            raise BenchError(f"not ready within {_LIMIT} s: {get(side.url, '/readyz')}")
        time.sleep(0.02)  # nothing tells when it is ready
    return asyncio.run(send(side.url, streaming(model, "The value of", 8))).to_first


def _process(plan: Plan, *, reference: bool) -> tuple[float, float]:
    command: Sequence[str] = ()
    if reference:
        folder = ROOT / "bench" / "serving" / "reference"
        command = (str(folder / "wrapper.py"), python(), *_REFERENCE)
    server = Server(plan.scratch, DEMO, command, WORKERS="4")
    variables = {}
    if reference:
        variables = {
            "PYTHONPATH": str(ROOT / "bench" / "serving" / "reference"),
            "PYTHONPYCACHEPREFIX": str(plan.scratch / "nothing"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "REFERENCE_MODEL": str(DEMO),
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{server.port}",
        }
    began = time.monotonic()
    server.start(**variables)
    try:
        seconds = _first_token(server, server.model, began)
        return seconds, 0.0 if reference else _response_after_start(plan)
    finally:
        server.stop()


def _response_after_start(plan: Plan) -> float:
    server = Server(plan.scratch, DEMO, WORKERS="4")
    server.start()
    try:
        return _response_after_ready(server, server.model)
    finally:
        server.stop()


def _container(image: str) -> float:
    began = time.monotonic()
    with Container(image) as container:
        return _first_token(container, "current", began)


def _container_response(image: str) -> float:
    with Container(image) as container:
        return _response_after_ready(container, "current")


def run(plan: Plan) -> Result:
    """Start both sides in turns; containers only where an engine runs."""
    seconds: dict[str, list[float]] = {"process": [], "reference process": []}
    responses: list[float] = []
    _process(plan, reference=False)  # the first start of a checkout compiles; images carry that bytecode
    for turn in range(plan.rounds + 2 if not plan.quick else 1):
        own, response = _process(plan, reference=False)
        reference, _ = _process(plan, reference=True)
        seconds["process"].append(own)
        seconds["reference process"].append(reference)
        responses.append(response)
        say(f"bench: cold start {turn + 1}: {own:.2f} s, reference {reference:.2f} s; response {response:.3f} s")
    try:
        image = service_image()
        peer = reference_image(image)
    except BenchError as error:
        say(f"bench: cold start: no containers: {error}")
        missing = str(error)
    else:
        missing = ""
        responses.clear()
        seconds |= {"container": [], "reference container": []}
        for turn in range(plan.rounds + 2 if not plan.quick else 1):
            seconds["container"].append(_container(image))
            seconds["reference container"].append(_container(peer))
            responses.append(_container_response(image))
            own, reference = seconds["container"][-1], seconds["reference container"][-1]
            say(f"bench: container {turn + 1}: {own:.2f} s, reference {reference:.2f} s; {responses[-1]:.3f} s")
    kinds = ["process"] if missing else ["process", "container"]
    goals = []
    for kind in kinds:
        pairs = zip(seconds[kind], seconds[f"reference {kind}"], strict=True)
        ratio = median(own / reference for own, reference in pairs)
        goals.append(Goal(f"{kind} to first token, against the reference", ratio, "<=", _BOUND).said())
    goals.append(
        Goal("first token of the first request after ready", max(responses), "<=", _RESPONSE_BOUND, "s").said()
    )
    return {
        "seconds": seconds,
        "responses": responses,
        "missing": missing,
        "goals": [goal.stored() for goal in goals],
    }


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    lines = [
        (
            "The demo model, 4 HTTP workers, from the start of the process (or of `docker run`) to the first streamed "
            "token at a client that asks every 20 ms. The reference stands for the requirements' first image: no "
            "bytecode, four workers that each load the model, started through a wrapper process in place of `conda "
            "run` (conda itself is not at hand; its own start would come on top). It is the same image without its "
            "`.pyc` files, and the same packages."
        ),
        "",
        "| | median s | all starts s |",
        "|---|---|---|",
    ]
    for name, seen in result["seconds"].items():
        lines.append(f"| {name} | {median(seen):.2f} | {', '.join(f'{one:.2f}' for one in seen)} |")
    if result["missing"]:
        lines += ["", "Containers were not measured: no container engine ran, or it had no image."]
    return [*lines, "", *goals_table(result["goals"])]
