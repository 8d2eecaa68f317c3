"""What a token costs besides the forward pass: scheduling, sampling, the way to the client."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import TYPE_CHECKING

from bench.serving.load import clients, seeded, streaming, words
from bench.serving.plan import Goal, Plan, goals_table
from bench.serving.process import Server
from slipway.progress import say

if TYPE_CHECKING:
    from bench.serving.report import Result

TITLE = "Time outside the forward pass"
_CLIENTS = 16
_BOUND = 10.0
_PASSES = "token_service_forward_pass_seconds_sum"
_LOOP = "token_service_step_overhead_seconds_total"


def _turn(server: Server, turn: int, tokens: int) -> dict[str, float]:
    rng = seeded(turn)
    queues = [[streaming("bench", words(48, rng), tokens)] for _ in range(_CLIENTS)]
    before = server.metrics()
    seconds, _ = asyncio.run(clients(server.url, queues))
    after = server.metrics()
    passes, loop = (after[name] - before.get(name, 0) for name in (_PASSES, _LOOP))
    decode = {
        key: after[f"token_service_forward_pass_seconds_{key}:decode"]
        - before.get(f"token_service_forward_pass_seconds_{key}:decode", 0)
        for key in ("sum", "count")
    }
    seen = {
        "wall_seconds": seconds,
        "forward_seconds": passes,
        "loop_seconds": loop,
        "decode_ms": 1000 * decode["sum"] / decode["count"],
        "loop_percent": 100 * loop / passes,
        "client_percent": 100 * (seconds - passes) / passes,
    }
    say(
        f"bench: {_CLIENTS} clients: {seconds:.2f} s, of it {passes:.2f} s forward passes: "
        f"loop {seen['loop_percent']:.1f} %, seen by clients {seen['client_percent']:.1f} %"
    )
    return seen


def run(plan: Plan) -> Result:
    """Measure on the engine's side and on the clients'."""
    with Server(plan.scratch, plan.weights(), MAX_RUNNING="32") as server:
        _turn(server, 999, 8)
        turns = [_turn(server, turn, 32 if plan.quick else 128) for turn in range(plan.rounds)]
    figures = {name: median(turn[name] for turn in turns) for name in turns[0]}
    goals = [
        Goal("engine's loop, of the forward pass", figures["loop_percent"], "<=", _BOUND, "%").said(),
        Goal("all the clients see, of the forward pass", figures["client_percent"], "<=", _BOUND, "%").said(),
    ]
    return {"turns": turns, "figures": figures, "goals": [goal.stored() for goal in goals]}


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    seen = result["figures"]
    return [
        (
            f"{_CLIENTS} clients, 128 tokens each. The engine measures its forward passes "
            "(`token_service_forward_pass_seconds`) and its loop outside them "
            "(`token_service_step_overhead_seconds_total`); clients measure from the first request to the last answer. "
            f"A decoding pass takes {seen['decode_ms']:.1f} ms."
        ),
        "",
        "| | seconds |",
        "|---|---|",
        f"| first request to last answer, at the clients | {seen['wall_seconds']:.2f} |",
        f"| forward passes | {seen['forward_seconds']:.2f} |",
        f"| the engine's loop outside them | {seen['loop_seconds']:.2f} |",
        "",
        *goals_table(result["goals"]),
    ]
