"""`slipway flow STAGE`: run one stage, or all of them (`deploy`), under the inventory's lock."""

from __future__ import annotations

import os
import sys
import time

import click

from slipway.flow.inventory import lock_drift, require_inventory
from slipway.flow.mutex import exclusive
from slipway.flow.report import Report
from slipway.flow.service import deployed_service
from slipway.flow.stages import BY_NAME, STAGES, Ahead, Stage, Step, run_stage

_DESTROY = Stage("destroy", "the host as it was", (Step(playbook="destroy"),))


def _plan(name: str) -> tuple[Stage, ...]:
    """Return the stages that a command runs: `deploy` runs the whole flow, any other name itself."""
    if name == "deploy":
        return STAGES
    return (_DESTROY,) if name == "destroy" else (BY_NAME[name],)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("stage", type=click.Choice([*BY_NAME, "destroy"]))
@click.option("--inventory", default="local", show_default=True, help="Folder under inventories/.")
@click.option(
    "--keep-cache/--no-keep-cache",
    default=True,
    show_default=True,
    help="destroy: keep downloads and built packages.",
)
@click.argument("ansible_arguments", nargs=-1, type=click.UNPROCESSED)
def command(stage: str, inventory: str, keep_cache: bool, ansible_arguments: tuple[str, ...]) -> None:  # noqa: FBT001 - click passes flags so
    """Run STAGE; further arguments go to ansible-playbook (-e name=value, -v, --check)."""
    require_inventory(inventory)
    arguments = list(ansible_arguments)
    os.environ.setdefault("SLIPWAY_LOCK_DRIFT", lock_drift(inventory, arguments))
    if stage == "destroy":
        arguments += ["-e", f'{{"slipway_keep_cache": {str(keep_cache).lower()}}}']
    with exclusive(inventory, stage):
        report = Report(stage, inventory)
        plan = _plan(stage)
        ahead = Ahead(plan) if len(plan) > 1 else None
        for step in plan:
            sys.stderr.write(f"==> {step.name}: {step.leaves}\n")
            begin = time.monotonic()
            totals = run_stage(step, inventory, arguments, ahead)
            report.add(step.name, time.monotonic() - begin, totals)
        click.echo(report.write(deployed_service() if stage in {"deploy", "verify"} else None))
