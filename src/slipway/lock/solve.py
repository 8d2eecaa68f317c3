"""Solve environments against the private channel and write their locks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rattler import (
    BuildString,
    Channel,
    Gateway,
    GenericVirtualPackage,
    LockChannel,
    LockFile,
    LockPlatform,
    MatchSpec,
    PackageName,
    Subdir,
    Version,
    solve,
)

from slipway.channel.aio import run
from slipway.errors import SlipwayError
from slipway.lock.store import CHANNEL_URL, PLATFORM

if TYPE_CHECKING:
    from pathlib import Path

    from rattler import RepoDataRecord

    from slipway.lock.environment import Environment

_VIRTUAL = {"__unix": "0", "__linux": "6.1", "__glibc": "2.36", "__archspec": "1"}
"""What the images offer: bookworm's glibc, on any x86_64 processor."""


def solve_environment(environment: Environment, channel: Path) -> list[RepoDataRecord]:
    """Return the records of an environment, sorted by name, with addresses below `CHANNEL_URL`.

    Raises:
        SlipwayError: it cannot be solved; the message holds the solver's explanation.
    """
    virtual = [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
        for name, version in _VIRTUAL.items()
    ]
    try:
        records = run(
            solve(
                sources=[Channel(channel.as_uri())],
                specs=[MatchSpec(dependency.spec) for dependency in environment.dependencies],
                gateway=Gateway(),
                platforms=[Subdir(PLATFORM), Subdir("noarch")],
                virtual_packages=virtual,
            )
        )
    except Exception as error:
        raise SlipwayError(
            f"the environment {environment.name} cannot be solved",
            seen=str(error),
            rule="the packages' requirements agree with one another and with environment.yml",
            edit=environment.file,
            run="nox -s lock",
        ) from error
    for record in records:
        record.url = f"{CHANNEL_URL}/{record.subdir}/{record.file_name}"
        record.channel = CHANNEL_URL
    return sorted(records, key=lambda record: record.name.normalized)


def render_lock(records: list[RepoDataRecord], scratch: Path) -> str:
    """Return the rattler-lock text for one environment's records; `scratch` is a path to write it to in between."""
    platform = LockPlatform(PLATFORM)
    lock = LockFile([platform])
    lock.set_channels("default", [LockChannel(CHANNEL_URL)])
    for record in records:
        lock.add_conda_package("default", platform, record)
    lock.to_path(scratch)
    text = scratch.read_text(encoding="utf-8")
    scratch.unlink()
    return text


def render_explicit(records: list[RepoDataRecord]) -> str:
    """Return the `@EXPLICIT` list that conda, mamba and micromamba install from."""
    rows = [f"{record.url}#sha256:{record.sha256.hex() if record.sha256 else ''}" for record in records]
    return "\n".join([f"# platform: {PLATFORM}", "@EXPLICIT", *rows]) + "\n"
