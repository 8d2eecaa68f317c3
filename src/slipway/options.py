"""Options that several commands share."""

from __future__ import annotations

import click

drift_option = click.option(
    "--drift",
    type=click.Choice(["fail", "relock"]),
    envvar="SLIPWAY_LOCK_DRIFT",
    default="relock",
    show_default=True,
    help="When a locked version has vanished from its upstream: stop, or lock what replaces it and go on.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
