"""`slipway lock`: write the locks, or check that they agree with what people wrote."""

from __future__ import annotations

import json

import click

from slipway import paths
from slipway.options import drift_option, json_option
from slipway.progress import say

_MOST_LINES = 40


@click.command("lock", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Change nothing; fail when locks and inputs disagree, saying which line.")
@click.option("--upgrade", multiple=True, metavar="NAME", help="Do not keep NAME's locked version; * for all.")
@drift_option
@json_option
def command(*, check: bool, upgrade: tuple[str, ...], drift: str, as_json: bool) -> None:
    """Lock the channel, the environments and the images' Debian packages into locks/."""
    if check:
        from slipway.lock.check import check_locks  # noqa: PLC0415 - a check must not wait for the solver's import

        check_locks(paths.ROOT)
        say("lock: locks and inputs agree")
        result = {"changed": False}
    else:
        from slipway.lock.relock import Relock  # noqa: PLC0415 - the same

        relock = Relock(upgrade=frozenset(upgrade), drift=drift)
        changed = relock.run()
        for line in relock.differences[:_MOST_LINES]:
            say(f"lock: {line}")
        if len(relock.differences) > _MOST_LINES:
            say(f"lock: and {len(relock.differences) - _MOST_LINES} more; git diff locks shows all")
        say("lock: written" if changed else "lock: nothing changed")
        result = {"changed": changed}
    if as_json:
        click.echo(json.dumps(result))
