"""What a run was asked to do, and what it hands from part to part."""

from __future__ import annotations

import operator
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.serving.errors import BenchError
from bench.serving.process import environment, python
from slipway.paths import CACHE, ROOT
from slipway.progress import say

if TYPE_CHECKING:
    from pathlib import Path

_WORD = {True: "met", False: "MISSED"}
_COMPARE = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        scratch: Folder for sockets, logs and metrics of the services started, removed at the end.
        quick: Small weights and few repetitions: shows that everything works, its figures mean little.
        seconds: Length of the soak.
        turns: How often each side takes its turn; once with `quick`.
    """

    scratch: Path
    quick: bool
    seconds: int
    turns: int = 3

    @property
    def rounds(self) -> int:
        """How often each side takes its turn."""
        return 1 if self.quick else self.turns

    def weights(self) -> Path:
        """Return the folder of the benchmark's model, made on first use.

        Raises:
            BenchError: it could not be made.
        """
        folder = CACHE / ("bench-model-small" if self.quick else "bench-model")
        if not (folder / "manifest.json").is_file():
            say(f"bench: making random weights in {folder.relative_to(ROOT)}")
            words = [python(), "-m", "bench.serving.weights", str(folder), *(["--small"] if self.quick else [])]
            made = subprocess.run(
                words, cwd=ROOT, env=environment(self.scratch, {}), capture_output=True, text=True, check=False
            )
            if made.returncode:
                raise BenchError(f"cannot make {folder}: {made.stderr[-800:]}")
        return folder


@dataclass(frozen=True)
class Goal:
    """A figure with the value that it should reach.

    Attributes:
        name: What was measured.
        value: The figure.
        sign: `>=` or `<=`.
        bound: What the figure is held against.
        unit: Of both; `x` for ratios.
    """

    name: str
    value: float
    sign: str
    bound: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the figure keeps its bound."""
        return bool(_COMPARE[self.sign](self.value, self.bound))

    def said(self) -> Goal:
        """Print the figure and return it."""
        seen = f"{self.value:.2f} {self.unit}".strip()
        say(f"bench: {self.name}: {seen} (goal {self.sign} {self.bound:g}): {_WORD[self.met]}")
        return self

    def stored(self) -> dict[str, Any]:
        """Return it as the report keeps it."""
        return {**asdict(self), "met": self.met}


def goals_table(goals: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table of stored goals."""
    lines = ["| figure | seen | goal | |", "|---|---|---|---|"]
    for goal in goals:
        seen, bound = f"{goal['value']:.2f} {goal['unit']}", f"{goal['sign']} {goal['bound']:g} {goal['unit']}"
        lines.append(
            f"| {goal['name']} | {seen.strip()} | {bound.strip()} | {'met' if goal['met'] else '**missed**'} |"
        )
    return lines
