"""Make `.slipway/channel` hold exactly the packages of the lock, verified and indexed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway import paths
from slipway.channel.convert import Job, convert_all
from slipway.channel.index import SUBDIRS, index_channel
from slipway.channel.pip import fetch_wheels
from slipway.deb import Archive
from slipway.errors import SlipwayError
from slipway.files import sha256_file, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.channel.artefact import Artefact, Wheel
    from slipway.channel.report import Report
    from slipway.deb import Deb
    from slipway.lock.store import ChannelLock

_STAMP = ".built.json"
_INDEXES = ("repodata.json", "repodata.json.zst", "repodata_shards.msgpack.zst")


@dataclass(frozen=True)
class Built:
    """What one build did.

    Attributes:
        changed: Whether the channel differs from before.
        converted: Number of packages converted.
        packages: Number of packages in the channel.
    """

    changed: bool
    converted: int
    packages: int


def build_channel(lock: ChannelLock, suite: str, report: Report, channel: Path | None = None) -> Built:
    """Fetch what is missing, convert it, verify it against `lock` and index the channel.

    Args:
        lock: What the channel is to hold.
        suite: Debian release of the `deb` packages.
        report: Told about progress.
        channel: The channel's folder; `.slipway/channel` by default.

    Raises:
        LockDrift: an upstream no longer holds a locked version.
        SlipwayError: an upstream does not answer, or a file or a package has another SHA-256 than locked.
    """
    channel = channel or paths.CHANNEL
    stamp = channel / _STAMP
    if is_built(lock, channel):
        return Built(changed=False, converted=0, packages=len(lock.artefacts))
    stamp.unlink(missing_ok=True)
    _remove_strangers(lock, channel)
    missing = [one for one in lock.artefacts if not _is_as_locked(channel / one.path, one)]
    if missing:
        files = _fetch(missing, suite, report)
        jobs = [Job(one.recipe, tuple(files[up] for up in one.recipe.upstream), one.sha256) for one in missing]
        report.start("convert", sum(up.size for one in missing for up in one.recipe.upstream))
        made = convert_all(jobs, channel, lambda one: report.advance(sum(up.size for up in one.recipe.upstream)))
        _check_made(made, {one.path: one for one in missing})
    report.start("index", 0)
    index_channel(channel)
    mark_built(lock, channel)
    return Built(changed=True, converted=len(missing), packages=len(lock.artefacts))


def is_built(lock: ChannelLock, channel: Path) -> bool:
    """Whether `channel` is as `mark_built` saw it for the same lock, by sizes and times, not by reading it all."""
    stamp = channel / _STAMP
    return stamp.is_file() and stamp.read_text() == _state(lock, channel)


def mark_built(lock: ChannelLock, channel: Path) -> None:
    """Note that `channel` holds exactly what `lock` says and is indexed, so that the next build finds nothing to do."""
    write_atomic(channel / _STAMP, _state(lock, channel))


def _fetch(artefacts: list[Artefact], suite: str, report: Report) -> dict[Deb | Wheel, Path]:
    debs = [deb for one in artefacts for deb in one.recipe.debs]
    wheels = [one.recipe.wheel for one in artefacts if one.recipe.wheel]
    report.start("fetch", sum(deb.size for deb in debs) + sum(wheel.size for wheel in wheels))
    files: dict[Deb | Wheel, Path] = {}
    if debs:
        files.update(zip(debs, Archive(suite).fetch(debs), strict=True))
        report.advance(sum(deb.size for deb in debs))
    files.update(fetch_wheels(wheels, report.advance).items())
    return files


def _is_as_locked(path: Path, artefact: Artefact) -> bool:
    return path.is_file() and path.stat().st_size == artefact.size and sha256_file(path) == artefact.sha256


def _check_made(made: list[Artefact], locked: dict[str, Artefact]) -> None:
    wrong = [one for one in made if one.sha256 != locked[one.path].sha256]
    if wrong:
        one = min(wrong, key=lambda artefact: artefact.path)
        raise SlipwayError(
            f"{one.recipe.file}, converted here, is not the locked package ({len(wrong)} of {len(made)} differ)",
            seen=f"sha256 {one.sha256}",
            rule=f"sha256 {locked[one.path].sha256} (locks/channel.yml)",
            edit="nothing by hand; the operator's environment (requirements/operator.txt) decides the compression",
            run="nox -s lock, and read the difference before committing it",
        )


def _remove_strangers(lock: ChannelLock, channel: Path) -> None:
    """Remove what is not locked, and what an interrupted build left."""
    wanted = {one.path for one in lock.artefacts}
    for path in channel.glob("*/*.conda"):
        if str(path.relative_to(channel)) not in wanted:
            path.unlink()
    for left in channel.glob(".convert-*"):
        shutil.rmtree(left)


def _state(lock: ChannelLock, channel: Path) -> str:
    """Return what a finished build looks like: every locked package and index with the size and time it has."""
    rows: dict[str, object] = {}
    for one in lock.artefacts:
        path = channel / one.path
        rows[one.path] = [one.sha256, _look(path)]
    for subdir in SUBDIRS:
        rows |= {f"{subdir}/{name}": _look(channel / subdir / name) for name in _INDEXES}
    rows["strangers"] = sorted(
        str(path.relative_to(channel))
        for path in channel.glob("*/*.conda")
        if str(path.relative_to(channel)) not in rows
    )
    return json.dumps(rows, indent=0, sort_keys=True)


def _look(path: Path) -> list[int] | None:
    if not path.is_file():
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
