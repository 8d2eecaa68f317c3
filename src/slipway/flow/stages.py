"""The stages in flow order and the steps each consists of."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.flow.runner import Totals, run_command, run_playbook

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Step:
    """One step: a playbook (`playbook`) or a slipway command (`command`), which needs no host and may run ahead."""

    playbook: str = ""
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A named stage; each leaves one thing that the next stage reads."""

    name: str
    leaves: str
    steps: tuple[Step, ...]


STAGES = (
    Stage("provision", "hosts with an engine and a Swarm", (Step(playbook="provision"),)),
    Stage("lock", "locks/ that agree with their inputs", (Step(command=("lock", "--check")),)),
    Stage("channel", "the private conda channel", (Step(command=("channel", "build")), Step(playbook="channel"))),
    Stage("image", "local images", (Step(playbook="image"),)),
    Stage("push", "images in the registry and images/digests.yml", (Step(playbook="push"),)),
    Stage("deploy", "the running stack", (Step(playbook="deploy"),)),
    Stage("verify", "reports/", (Step(playbook="verify"),)),
)

BY_NAME = {stage.name: stage for stage in STAGES}


class Ahead:
    """Runs the commands of later stages while an earlier one waits for hosts: downloads need no engine."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._results = {
            (stage.name, step): Future[Totals]() for stage in stages for step in stage.steps if step.command
        }
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        failure: Exception | None = None
        for (name, step), future in self._results.items():
            if failure:
                future.set_exception(failure)
                continue
            try:
                future.set_result(run_command(list(step.command), name, quiet=True))
            except Exception as error:  # noqa: BLE001 - handed to the stage that waits for it
                failure = error
                future.set_exception(error)

    def result(self, stage: Stage, step: Step) -> Totals:
        """Wait for a step and return its totals, or raise what it raised."""
        return self._results[stage.name, step].result()


def run_stage(stage: Stage, inventory: str, arguments: Sequence[str], ahead: Ahead | None = None) -> Totals:
    """Run a stage's steps in order and return what they changed.

    Args:
        stage: The stage.
        inventory: Folder under `inventories/`.
        arguments: Further words for ansible-playbook.
        ahead: Where commands run already; None runs them here.

    Raises:
        SlipwayError: a step failed; later steps have not run.
    """
    totals = Totals()
    for step in stage.steps:
        if step.playbook:
            totals.add(run_playbook(step.playbook, inventory, list(arguments)))
        elif ahead:
            totals.add(ahead.result(stage, step))
        else:
            totals.add(run_command(list(step.command), stage.name))
    return totals
