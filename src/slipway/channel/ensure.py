"""Have the channel as locked, whatever it takes: what `slipway channel build` and `slipway dev` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway import paths
from slipway.channel.build import build_channel
from slipway.channel.config import read_config
from slipway.channel.report import Report
from slipway.deb import Archive, LockDrift
from slipway.lock.check import check_locks
from slipway.lock.store import read_channel_lock, read_image_lock
from slipway.progress import say

if TYPE_CHECKING:
    from slipway.channel.build import Built


def ensure_channel(drift: str, *, images: bool = False) -> tuple[Built, list[str]]:
    """Build `.slipway/channel` from `locks/channel.yml`, unless it already is as locked.

    Args:
        drift: What to do when a locked version has vanished from its upstream: `fail`, or `relock` and go on.
        images: Have the Debian packages of all images in the cache as well, so that one that has vanished is met here,
            where it can be relocked, and not in the middle of a build.

    Returns:
        What the build did, and one line per package that was relocked.

    Raises:
        LockDrift: a version has vanished and `drift` is `fail`, or what replaces it has vanished as well.
        SlipwayError: locks and inputs disagree, an upstream does not answer, or a checksum differs.
    """
    check_locks(paths.ROOT)
    suite = read_config(paths.ROOT / "channel.yml").suite
    with Report("channel") as report:
        try:
            return _have(suite, report, images=images), []
        except LockDrift as drifted:
            if drift == "fail":
                raise
            say(f"channel: vanished upstream: {', '.join(drifted.vanished)}; relocking")
        from slipway.lock.relock import Relock  # noqa: PLC0415 - needed in this rare case only

        relock = Relock()
        relock.run()
        for line in relock.differences:
            say(f"channel: relocked {line}")
        return _have(suite, report, images=images), relock.differences


def _have(suite: str, report: Report, *, images: bool) -> Built:
    """Build the channel, and fetch the images' packages where wanted."""
    if images:
        Archive(suite).fetch(sorted({deb for debs in read_image_lock(paths.LOCKS).values() for deb in debs}))
    return build_channel(read_channel_lock(paths.LOCKS), suite, report)
