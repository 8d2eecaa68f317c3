"""Minutes at saturation, among clients that leave, lie and crowd: intended errors only, flat memory, gauges at zero."""

from __future__ import annotations

import asyncio
import collections
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from bench.serving.errors import BenchError
from bench.serving.load import Body, Result, seeded, send, streaming
from bench.serving.plan import Goal, Plan, goals_table
from bench.serving.process import DEMO, Server, get
from slipway.progress import say

if TYPE_CHECKING:
    import random

    from bench.serving.report import Result as Stored

TITLE = "Soak"
_CLIENTS = 64
_SETTINGS = {"MAX_RUNNING": "16", "MAX_WAITING": "16", "WORKERS": "4"}
_SAMPLE_SECONDS = 5.0
_GROWTH = 1.05
_GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
_MALFORMED: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[]",
    b'{"model": "bench"}',
    b'{"model": "bench", "prompt": 7}',
    b'{"model": "bench", "prompt": "a", "temperature": "hot"}',
    b'{"model": "bench", "prompt": "a", "max_tokens": -1}',
    b'{"model": "bench", "prompt": "a", "max_tokens": 100000}',
    b'{"model": "nobody", "prompt": "a"}',
    b'{"model": "bench", "prompt": [99999999]}',
    b"\xff\xfe" * 50,
    b"[" * 5000,
)


@dataclass
class _Tally:
    """What happened; `wrong` keeps the first few answers that should not have been."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    def note(self, kind: str, result: Result, expected: set[str]) -> None:
        status = str(result.status)
        outcome = status if result.complete or result.status == 0 else f"{status} cut"
        self.outcomes[f"{kind}: {outcome}"] += 1
        if outcome not in expected:
            self.outcomes["not intended"] += 1
            if len(self.wrong) < 20:  # noqa: PLR2004 - enough to see what it is
                self.wrong.append(f"{kind}: {outcome}: {result.text[-300:].decode(errors='replace')}")


def _body(rng: random.Random) -> Body:
    words = rng.choices(("value", "object", "class", "import", "of", "the", "module", "returns"), k=rng.randint(1, 60))
    if rng.random() < 0.03:  # noqa: PLR2004 - a share
        words *= 10
    body = streaming("bench", " ".join(words[:600]), rng.randint(1, 48))
    extras: list[Body] = [
        {},
        {},
        {"temperature": 1.1, "seed": rng.randrange(1000)},
        {"n": 2, "temperature": 0.9},
        {"stop": ["the", "."]},
        {"logprobs": 3},
        {"top_p": 0.9, "top_k": 40, "min_p": 0.02, "temperature": 1.0},
        {"presence_penalty": 0.5, "frequency_penalty": 0.5, "logit_bias": {"5": -100}},
    ]
    return body | rng.choice(extras)


async def _client(url: str, number: int, until: float, tally: _Tally) -> None:
    rng = seeded(number)
    while time.monotonic() < until:
        body, choice = _body(rng), rng.random()
        if choice < 0.1:  # noqa: PLR2004 - shares of the traffic
            result = await send(url, rng.choice(_MALFORMED), timeout=60)
            tally.note("malformed", result, {"400", "404", "422"})
        elif choice < 0.25:  # noqa: PLR2004
            result = await send(url, body, leave_at_first=True, timeout=120)
            tally.note("leaves at the first token", result, {"200 cut", "200", "429"})
        elif choice < 0.4:  # noqa: PLR2004
            if rng.random() < 0.5:  # noqa: PLR2004
                body = {key: value for key, value in body.items() if not key.startswith("stream")}
            result = await send(url, body, leave_after=rng.random() * 0.4)
            tally.note("leaves at any time", result, {"0", "0 cut", "200 cut", "200", "429", "429 cut"})
        elif choice < 0.55:  # noqa: PLR2004
            body = {key: value for key, value in body.items() if not key.startswith("stream")}
            result = await send(url, body, timeout=120)
            tally.note("whole", result, {"200", "429"})
        else:
            result = await send(url, body, timeout=120)
            tally.note("stream", result, {"200", "429"})
        if result.status == 429:  # noqa: PLR2004 - HTTP's "too many requests"
            if b"retry-after" not in result.text.lower():
                tally.note("429 without Retry-After", result, set())
            await asyncio.sleep(rng.random())  # sooner than told: the service is to stay saturated


async def _watch(server: Server, until: float, tally: _Tally) -> None:
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    while time.monotonic() < until:
        await asyncio.sleep(_SAMPLE_SECONDS)
        server.running()
        tally.megabytes.append(await loop.run_in_executor(None, server.memory) / 1e6)
        if len(tally.megabytes) % 6 == 0:
            done = sum(tally.outcomes.values())
            say(
                f"bench: soak {time.monotonic() - began:.0f} s: {done} requests, "
                f"{tally.outcomes['not intended']} not intended, {tally.megabytes[-1]:.0f} MB"
            )


async def _soak(server: Server, seconds: int) -> _Tally:
    tally, until = _Tally(), time.monotonic() + seconds
    await asyncio.gather(
        _watch(server, until, tally), *(_client(server.url, number, until, tally) for number in range(_CLIENTS))
    )
    return tally


def _gauges(server: Server) -> dict[str, float]:
    """Return the gauges once they are zero, or as they are 3 s later."""
    deadline = time.monotonic() + 3
    while True:
        samples = server.metrics()
        seen = {name: samples.get(f"token_service_{name}", float("nan")) for name in _GAUGES}
        if not any(seen.values()) or time.monotonic() > deadline:
            return seen
        time.sleep(0.1)  # gauges are read, they do not tell


def run(plan: Plan) -> Stored:
    """Run the soak and judge it.

    Raises:
        BenchError: the service ended, or does not answer afterwards as it did before.
    """
    with Server(plan.scratch, DEMO, **_SETTINGS) as server:
        probe = streaming("bench", "The statement is used to", 16)
        before = asyncio.run(send(server.url, probe))
        tally = asyncio.run(_soak(server, plan.seconds))
        gauges = _gauges(server)
        after = asyncio.run(send(server.url, probe))
        if (after.status, after.tokens) != (before.status, before.tokens) or get(server.url, "/readyz")[
            0
        ] != before.status:
            raise BenchError(f"after the soak the service answers {after.status}: {after.text[-300:]!r}")
    for line in tally.wrong:
        say(f"bench: soak: not intended: {line}")
    early, late = _halves(tally.megabytes)
    goals = [
        Goal("errors that are not intended", tally.outcomes["not intended"], "<=", 0, "").said(),
        Goal("memory, last fifth against second fifth", late / early, "<=", _GROWTH).said(),
        Goal("largest gauge 3 s after the end", max(gauges.values()), "<=", 0, "").said(),
    ]
    return {
        "seconds": plan.seconds,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "wrong": tally.wrong,
        "megabytes": [round(size, 1) for size in tally.megabytes],
        "gauges": gauges,
        "goals": [goal.stored() for goal in goals],
    }


def _halves(sizes: list[float]) -> tuple[float, float]:
    """Return the medians of the second and of the last fifth: the first one is warm-up."""
    fifth = max(1, len(sizes) // 5)
    return median(sizes[fifth : 2 * fifth] or sizes), median(sizes[-fifth:])


def page(result: Stored) -> list[str]:
    """Return the lines of the part's section."""
    lines = [
        (
            f"{result['seconds']} s, {_CLIENTS} clients without pause on the demo model with 16 running and 16 waiting "
            "places: streams and whole answers with changing parameters, clients that leave at the first token or at "
            "any time before, bodies that are not requests. Refusals with 429 and 4xx are intended, nothing else is."
        ),
        "",
        "| request: answer | times |",
        "|---|---|",
    ]
    lines += [f"| {name} | {count} |" for name, count in result["outcomes"].items()]
    sizes = result["megabytes"]
    lines += [
        "",
        f"Memory of all processes: {sizes[0]:.0f} MB first, {max(sizes):.0f} MB at most, {sizes[-1]:.0f} MB last.",
    ]
    return [*lines, "", *goals_table(result["goals"])]
