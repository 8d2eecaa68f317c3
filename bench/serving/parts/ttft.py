"""Time to the first token: alone, with eight clients in a closed loop, and when eight arrive at once."""

from __future__ import annotations

import asyncio
from statistics import median, quantiles
from typing import TYPE_CHECKING

from bench.serving.load import checked, seeded, send, streaming, words
from bench.serving.plan import Goal, Plan, goals_table
from bench.serving.process import Server
from slipway.progress import say

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from bench.serving.report import Result

TITLE = "Time to first token"
_CLIENTS = 8
_PROMPT = 128
_BOUND = 3.0


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return quantiles(values, n=20, method="inclusive")[-1]


async def _one(url: str, rng: random.Random, tokens: int) -> float:
    body = streaming("bench", words(_PROMPT, rng), tokens)
    return checked(await send(url, body), tokens).to_first


async def _idle(url: str, count: int, seed: int) -> list[float]:
    rng = seeded(seed)
    return [await _one(url, rng, 8) for _ in range(count)]


async def _loop(url: str, count: int, seed: int) -> list[float]:
    """Return the times of a closed loop without each client's first request, which all of them send at once."""

    async def client(number: int) -> list[float]:
        rng = seeded(seed * 100 + number)
        first, *rest = [await _one(url, rng, rng.randint(32, 96)) for _ in range(count + 1)]
        del first
        return rest

    return [value for values in await asyncio.gather(*map(client, range(_CLIENTS))) for value in values]


async def _burst(url: str, seed: int) -> list[float]:
    rng = seeded(seed)
    return list(await asyncio.gather(*(_one(url, rng, 8) for _ in range(_CLIENTS))))


def run(plan: Plan) -> Result:
    """Measure idle, loop and burst in turns."""
    times: dict[str, list[float]] = {"idle": [], "loop": [], "burst": []}
    alone, each = (6, 2) if plan.quick else (12, 5)
    with Server(plan.scratch, plan.weights(), MAX_RUNNING="32") as server:
        asyncio.run(_idle(server.url, 2, 999))
        for turn in range(plan.rounds):
            times["idle"] += asyncio.run(_idle(server.url, alone, turn))
            times["loop"] += asyncio.run(_loop(server.url, each, turn + 10))
            times["burst"] += asyncio.run(_burst(server.url, turn + 20))
            latest = ", ".join(f"{kind} p95 {p95(values):.3f} s" for kind, values in times.items())
            say(f"bench: time to first token, turn {turn + 1}: {latest}")
    ratio = p95(times["loop"]) / p95(times["idle"])
    goal = Goal("p95 with 8 clients against p95 of one alone", ratio, "<=", _BOUND).said()
    figures = {
        kind: {"requests": len(values), "p50": median(values), "p95": p95(values), "worst": max(values)}
        for kind, values in times.items()
    }
    return {"seconds": figures, "goals": [goal.stored()]}


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    names = {
        "idle": "one client",
        "loop": "8 clients in a closed loop",
        "burst": "8 requests at once, service idle before",
    }
    lines = [
        (
            "Prompts of 128 random tokens, none of them cached; answers of 8 (alone) or 32 to 96 tokens (loop). "
            "Seconds from before the connection to the first text:"
        ),
        "",
        "| | requests | p50 | p95 | worst |",
        "|---|---|---|---|---|",
    ]
    for kind, name in names.items():
        seen = result["seconds"][kind]
        lines.append(f"| {name} | {seen['requests']} | {seen['p50']:.3f} | {seen['p95']:.3f} | {seen['worst']:.3f} |")
    return [*lines, "", *goals_table(result["goals"])]
