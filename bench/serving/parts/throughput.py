"""Tokens per second against one request at a time, padded batches, and transformers' own continuous batching."""

from __future__ import annotations

import asyncio
import contextlib
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.serving.load import Body, clients, seeded, streaming, words
from bench.serving.plan import Goal, Plan, goals_table
from bench.serving.process import Server
from slipway.progress import say

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from bench.serving.report import Result

TITLE = "Throughput"
OWN, SEQUENTIAL, PADDED, MANAGED = "token_service", "one at a time", "padded batch", "transformers' manager"
PEERS = {SEQUENTIAL: "sequential", PADDED: "padded", MANAGED: "managed"}
_AGAINST_SEQUENTIAL = {1: 0.95, 8: 2.0, 16: 3.5, 32: 5.0}
_MIXED = "16, answers of 16 to 112 tokens"
_MIXED_CLIENTS = 16


def peer_command(peer: str) -> Sequence[str]:
    """Return the words after the interpreter that start the service around another engine."""
    return ("-c", f"import sys; from token_service import supervisor; sys.exit(supervisor.main(engine={peer!r}))")


def servers(stack: contextlib.ExitStack, plan: Plan, names: Sequence[str], **settings: str) -> dict[str, Server]:
    """Start the service and the peers named, all of them side by side; idle ones take no processor time."""
    found = {}
    for name in names:
        command = () if name == OWN else peer_command(f"bench.serving.peers.{PEERS[name]}")
        found[name] = stack.enter_context(Server(plan.scratch, plan.weights(), command, **settings))
        say(f"bench: {name} is ready")
    return found


def take_turns(
    sides: Mapping[str, Server], queues: Sequence[Sequence[Body]], turn: int, label: str
) -> dict[str, float]:
    """Give every side the same requests, in an order that changes with `turn`; return tokens per second."""
    names = list(sides)
    tokens = sum(body["max_tokens"] for queue in queues for body in queue)
    rates = {}
    for name in names[turn % len(names) :] + names[: turn % len(names)]:
        seconds, _ = asyncio.run(clients(sides[name].url, queues))
        rates[name] = tokens / seconds
        say(f"bench: {label}: {name}: {rates[name]:.1f} tokens/s ({seconds:.1f} s)")
    return rates


def _level(count: int, rng: random.Random, *, quick: bool) -> list[list[Body]]:
    tokens = 32 if quick else 64
    each = 4 if count == 1 else 1
    return [[streaming("bench", words(rng.randint(32, 63), rng), tokens) for _ in range(each)] for _ in range(count)]


def _mixed(rng: random.Random) -> list[list[Body]]:
    return [
        [streaming("bench", words(rng.randint(32, 63), rng), rng.randint(16, 112)) for _ in range(3)]
        for _ in range(_MIXED_CLIENTS)
    ]


def run(plan: Plan) -> Result:
    """Measure all levels, every side in its turn."""
    rates: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        sides = servers(stack, plan, [OWN, *PEERS], MAX_RUNNING="32")
        take_turns(sides, _level(2, seeded(0), quick=True), 0, "warm-up")
        for turn in range(plan.rounds):
            for count in _AGAINST_SEQUENTIAL:
                queues = _level(count, seeded(turn * 1000 + count), quick=plan.quick)
                for name, rate in take_turns(sides, queues, turn, _named(str(count))).items():
                    rates.setdefault(str(count), {}).setdefault(name, []).append(rate)
            both = {name: side for name, side in sides.items() if name != SEQUENTIAL}
            for name, rate in take_turns(both, _mixed(seeded(turn)), turn, _MIXED).items():
                rates.setdefault(_MIXED, {}).setdefault(name, []).append(rate)
    goals = [
        Goal(f"{_named(str(count))}, against one at a time", _ratio(rates[str(count)], SEQUENTIAL), ">=", bound).said()
        for count, bound in _AGAINST_SEQUENTIAL.items()
    ]
    goals += [
        Goal(f"{_named(level)}, against a padded batch", _ratio(seen, PADDED), ">=", 1.0).said()
        for level, seen in rates.items()
    ]
    return {"tokens_per_second": rates, "goals": [goal.stored() for goal in goals]}


def _named(level: str) -> str:
    """Return a level as the page calls it: the number of clients, and what is special about their requests."""
    count, _, special = level.partition(", ")
    return f"{count} client{'s' * (count != '1')}{special and f', {special}'}"


def _ratio(rates: Mapping[str, Sequence[float]], peer: str) -> float:
    """Return the median of the ratios of each turn: what slows the machine slows both sides of a turn."""
    return median(own / other for own, other in zip(rates[OWN], rates[peer], strict=True))


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    rates: dict[str, dict[str, list[float]]] = result["tokens_per_second"]
    names = [OWN, *PEERS]
    lines = [
        (
            "Streamed greedy completions of random prompts of 32 to 63 tokens, 64 tokens each; all clients begin at "
            "once, every client is its own connection. Tokens per second of all clients together, median of the turns:"
        ),
        "",
        f"| clients | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for level, seen in rates.items():
        cells: list[Any] = [f"{median(seen[name]):.0f}" if name in seen else "" for name in names]
        lines.append(f"| {level} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        (
            "A padded batch leaves when 20 ms brought no newcomer, and ends with its longest answer. transformers' "
            f"manager ({MANAGED}) has a cache of 1536 blocks of 32 tokens and forward passes of at most 256 tokens. "
            "Ratios are medians of the turns' own ratios."
        ),
        "",
        *goals_table(result["goals"]),
    ]
