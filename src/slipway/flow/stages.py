"""The stages in flow order and the steps each consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.flow.runner import Totals, run_command, run_playbook

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Step:
    """One step: a playbook (`playbook`) or a slipway command (`command`)."""

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


def run_stage(stage: Stage, inventory: str, arguments: Sequence[str]) -> Totals:
    """Run a stage's steps in order and return what they changed.

    Raises:
        SlipwayError: a step failed; later steps have not run.
    """
    totals = Totals()
    for step in stage.steps:
        if step.playbook:
            totals.add(run_playbook(step.playbook, inventory, list(arguments)))
        else:
            totals.add(run_command(list(step.command), stage.name))
    return totals
