"""A batcher on the demo model, and a collector of what it delivers."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest

from token_service import settings
from token_service.engine.build import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from token_service.engine.batcher import Batcher
    from token_service.engine.sequence import Key
    from token_service.protocol import Hello, Job, Step

_PATIENCE = 60


class Runner:
    """Submits jobs to a batcher and collects their steps."""

    def __init__(self, batcher: Batcher, hello: Hello) -> None:
        self.batcher = batcher
        self.hello = hello
        self.died = threading.Event()
        self._numbers = itertools.count(1)
        self._steps: dict[Key, list[Step]] = {}
        self._change = threading.Condition()
        batcher.start(self._deliver, self._die)

    def _die(self) -> None:
        self.died.set()
        with self._change:
            self._change.notify_all()

    def _deliver(self, steps: list[tuple[Key, Step]]) -> None:
        with self._change:
            for key, step in steps:
                self._steps.setdefault(key, []).append(step)
            self._change.notify_all()

    def submit(self, *jobs: Job) -> list[Key]:
        """Queue jobs as one request."""
        number = next(self._numbers)
        self.batcher.submit((1, number), list(jobs))
        return [(1, number, index) for index in range(len(jobs))]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until steps make a condition true."""
        with self._change:
            self._change.wait_for(lambda: self.died.is_set() or condition(), _PATIENCE)
            if not condition():
                pytest.fail("the batcher did not deliver")

    def steps(self, key: Key) -> list[Step]:
        """Return what was delivered so far."""
        return self._steps.get(key, [])

    def finish(self, keys: list[Key]) -> list[list[Step]]:
        """Wait until all of `keys` have ended; return their steps."""
        self.wait(lambda: all(self.steps(key) and self.steps(key)[-1].finish for key in keys))
        return [self.steps(key) for key in keys]

    def tokens(self, *jobs: Job) -> list[list[int]]:
        """Run jobs at once; return their token ids."""
        return [[token.id for step in steps for token in step.tokens] for steps in self.finish(self.submit(*jobs))]


@pytest.fixture(scope="package")
def make_runner() -> Iterator[Callable[..., Runner]]:
    """A maker of runners, given a folder and settings."""
    made: list[Runner] = []

    def make(folder: Path, **overrides: str) -> Runner:
        values = {"MODEL_DIR": str(folder), "DEVICE": "cpu", "THREADS": "1", "MAX_RUNNING": "8"} | overrides
        config = settings.read({f"TOKEN_SERVICE_{name}": value for name, value in values.items()})
        made.append(Runner(*build(config, config.models[0], time.monotonic())))
        return made[-1]

    yield make
    for runner in made:
        runner.batcher.stop()


@pytest.fixture(scope="package")
def runner(make_runner: Callable[..., Runner], demo: Path) -> Runner:
    """The demo model with eight slots and eight waiting places."""
    return make_runner(demo, MAX_WAITING="8")
