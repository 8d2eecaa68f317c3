"""Long prompts: our batching against transformers' own, which pages its cache."""

from __future__ import annotations

import contextlib
from statistics import median
from typing import TYPE_CHECKING

from bench.serving.load import seeded, streaming, words
from bench.serving.parts.throughput import MANAGED, OWN, servers, take_turns

if TYPE_CHECKING:
    from bench.serving.plan import Plan
    from bench.serving.report import Result

TITLE = "Long prompts"
_LEVELS = (1, 8, 16)
_PROMPT, _TOKENS = 1024, 128


def run(plan: Plan) -> Result:
    """Measure both sides in turns."""
    rates: dict[str, dict[str, list[float]]] = {}
    prompt, tokens = (128, 16) if plan.quick else (_PROMPT, _TOKENS)
    with contextlib.ExitStack() as stack:
        sides = servers(stack, plan, [OWN, MANAGED], MAX_RUNNING="16")
        for turn in range(1 if plan.quick else 2):
            for count in _LEVELS:
                rng = seeded(turn * 100 + count)
                queues = [[streaming("bench", words(prompt, rng), tokens)] for _ in range(count)]
                for name, rate in take_turns(sides, queues, turn, f"{count} long prompts").items():
                    rates.setdefault(str(count), {}).setdefault(name, []).append(rate)
    return {"prompt": prompt, "tokens": tokens, "tokens_per_second": rates}


def page(result: Result) -> list[str]:
    """Return the lines of the part's section."""
    lines = [
        (
            f"Prompts of {result['prompt']} random tokens, {result['tokens']} tokens each; generated tokens per second "
            "of all clients together, prompts included in the time. It is one of the reasons for batching of our own "
            "(docs/decisions)."
        ),
        "",
        f"| clients | {OWN} | {MANAGED} | ratio |",
        "|---|---|---|---|",
    ]
    for count, seen in result["tokens_per_second"].items():
        ratio = median(own / other for own, other in zip(seen[OWN], seen[MANAGED], strict=True))
        lines.append(f"| {count} | {median(seen[OWN]):.1f} | {median(seen[MANAGED]):.1f} | {ratio:.2f} |")
    return lines
