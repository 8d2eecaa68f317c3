"""`slipway image build|push`: what nox and the roles call."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from slipway.image.build import build_images, local_tag
from slipway.image.engine import find_engine
from slipway.image.hierarchy import load
from slipway.image.mutex import alone
from slipway.image.push import push_images
from slipway.options import json_option
from slipway.progress import say

if TYPE_CHECKING:
    from slipway.image.build import Outcome


@click.group()
def command() -> None:
    """Build the images of images/hierarchy.yml and push them."""


@command.command()
@click.option("--only", multiple=True, metavar="NAME", help="Build this image and what it needs; may be repeated.")
@click.option(
    "--fresh", is_flag=True, help="Build all again without cached steps; equal digests prove reproducibility."
)
@json_option
def build(only: tuple[str, ...], *, fresh: bool, as_json: bool) -> None:
    """Build what changed into the local engine."""
    started = time.monotonic()
    with alone():
        outcomes = build_images(find_engine(), load(), list(only), fresh=fresh)
    built = [name for name, outcome in outcomes.items() if outcome.changed]
    if not built:
        say("images: nothing changed")
    if as_json:
        images = {name: _row(outcome) for name, outcome in outcomes.items()}
        row = {"changed": bool(built), "built": built, "images": images, "seconds": _round(time.monotonic() - started)}
        click.echo(json.dumps(row))


@command.command()
@click.option("--registry", required=True, metavar="HOST:PORT", help="Where to push to.")
@json_option
def push(registry: str, *, as_json: bool) -> None:
    """Push what the registry does not hold yet and write images/digests.yml."""
    started = time.monotonic()
    with alone():
        result = push_images(find_engine(), load(), registry)
    if not result.pushed:
        say("push: nothing changed")
    if as_json:
        row = {"changed": result.changed, "pushed": result.pushed, "images": result.images}
        click.echo(json.dumps({**row, "seconds": _round(time.monotonic() - started)}))


def _row(outcome: Outcome) -> dict[str, str | int | float | bool]:
    record = outcome.record
    return {
        "changed": outcome.changed,
        "id": record.identity,
        "tag": local_tag(record.name, record.tag),
        "size": record.size,
        "seconds": _round(outcome.seconds),
    }


def _round(seconds: float) -> float:
    return round(seconds, 2)
