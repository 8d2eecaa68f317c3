"""`slipway channel`: build the private conda channel from its lock."""

from __future__ import annotations

import json
import time

import click

from slipway.options import drift_option, json_option
from slipway.progress import say


@click.group("channel", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Build the private conda channel from locks/channel.yml."""


@command.command("build")
@json_option
@drift_option
def build(*, as_json: bool, drift: str) -> None:
    """Fetch, convert, verify and index every package of locks/channel.yml into .slipway/channel."""
    from slipway.channel.ensure import ensure_channel  # noqa: PLC0415 - imports of the work stay out of --help

    started = time.monotonic()
    built, relocked = ensure_channel(drift, images=True)
    seconds = time.monotonic() - started
    done = f"{built.converted} packages converted" if built.changed else "nothing changed"
    say(f"channel: {done}, {built.packages} in the channel, {seconds:.1f} s")
    if as_json:
        result = {
            "changed": built.changed or bool(relocked),
            "converted": built.converted,
            "packages": built.packages,
            "relocked": relocked,
            "seconds": round(seconds, 2),
        }
        click.echo(json.dumps(result))
