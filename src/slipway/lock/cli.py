"""`slipway lock`: write the locks, or check that they agree with what people wrote."""

from __future__ import annotations

import json

import click

from slipway import paths
from slipway.progress import say


@click.command("lock", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--check", is_flag=True, help="Change nothing; fail when locks and inputs disagree, saying which line.")
@click.option("--upgrade", multiple=True, metavar="NAME", help="Do not keep NAME's locked version; * for all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def command(*, check: bool, upgrade: tuple[str, ...], as_json: bool) -> None:
    """Lock the channel, the environments and the images' Debian packages into locks/."""
    if check:
        from slipway.lock.check import check_locks  # noqa: PLC0415 - a check must not wait for the solver's import

        check_locks(paths.ROOT)
        say("lock: locks and inputs agree")
        result = {"changed": False}
    else:
        from slipway.lock.relock import Relock  # noqa: PLC0415 - the same

        relock = Relock(upgrade=frozenset(upgrade))
        changed = relock.run()
        for line in relock.differences:
            say(f"lock: {line}")
        say("lock: written" if changed else "lock: nothing changed")
        result = {"changed": changed}
    if as_json:
        click.echo(json.dumps(result))
