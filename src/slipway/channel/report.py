"""Show how far a build of the channel is: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from slipway.progress import say

if TYPE_CHECKING:
    from types import TracebackType

_STEPS = 4


class Report:
    """Progress of a build; use it as a context manager.

    Args:
        prefix: Word before each line, for example `channel`.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._stage = ""
        self._total = 0
        self._done = 0
        self._started = time.monotonic()
        self._task: TaskID | None = None
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not os.environ.get("SLIPWAY_PROGRESS"):
            columns = (TextColumn("{task.description:>16}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def start(self, stage: str, total: int) -> None:
        """Begin a stage of `total` bytes; 0 where the amount is not known."""
        self._stage, self._total, self._done = stage, total, 0
        if self._bar:
            self._task = self._bar.add_task(f"{self._prefix}: {stage}", total=total or None)
        else:
            amount = f" {total / 1e6:.0f} MB" if total else ""
            say(f"{self._prefix}: {stage}{amount}")

    def advance(self, size: int) -> None:
        """Count `size` more bytes of the stage as done."""
        before = self._done * _STEPS // (self._total or 1)
        self._done += size
        if self._bar and self._task is not None:
            self._bar.advance(self._task, size)
        elif self._total and self._done * _STEPS // self._total > before:
            seconds = time.monotonic() - self._started
            say(f"{self._prefix}: {self._stage} {100 * self._done // self._total}% after {seconds:.0f} s")
