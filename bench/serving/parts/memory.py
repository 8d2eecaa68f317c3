"""What three more HTTP workers cost, in memory that is really there: shared pages count once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bench.serving.load import clients, streaming
from bench.serving.plan import Goal, Plan, goals_table
from bench.serving.process import DEMO, Server
from slipway.progress import say

if TYPE_CHECKING:
    from pathlib import Path

    from bench.serving.report import Result

TITLE = "Memory"
_BOUND = 1.3
_CONNECTIONS = 48
"""Each its own connection, so that every worker has served some."""


def _megabytes(plan: Plan, model: Path, workers: int) -> float:
    with Server(plan.scratch, model, WORKERS=str(workers)) as server:
        queues = [[streaming(server.model, f"the value of {number}", 16)] for number in range(_CONNECTIONS)]
        for begin in range(0, _CONNECTIONS, 8):
            asyncio.run(clients(server.url, queues[begin : begin + 8], exact=False))
        size = server.memory() / 1e6
    say(f"bench: memory: {model.name}, {workers} workers: {size:.0f} MB")
    return size


def run(plan: Plan) -> Result:
    """Measure both models with one worker and with four, after some requests."""
    models = {"demo": DEMO, "bench": plan.weights()}
    sizes = {
        name: {str(workers): _megabytes(plan, folder, workers) for workers in (1, 4)} for name, folder in models.items()
    }
    goals = [
        Goal(f"{name} model: 4 workers against 1", seen["4"] / seen["1"], "<=", _BOUND).said()
        for name, seen in sizes.items()
    ]
    return {"megabytes": sizes, "goals": [goal.stored() for goal in goals]}


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    lines = [
        (
            "Proportional set size of all processes of the service after 48 requests: pages that several processes "
            "share count once. The demo model's weights are 7 MB in float32, the benchmark's 400 MB."
        ),
        "",
        "| model | 1 worker MB | 4 workers MB |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {seen['1']:.0f} | {seen['4']:.0f} |" for name, seen in result["megabytes"].items()]
    return [*lines, "", *goals_table(result["goals"])]
