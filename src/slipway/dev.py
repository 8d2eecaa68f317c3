"""`slipway dev`: the environment of `environment.yml` on this machine, from the private channel and its lock."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway import paths
from slipway.errors import SlipwayError
from slipway.files import write_atomic
from slipway.options import drift_option, json_option
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rattler import RepoDataRecord

_MARK = ".slipway-incomplete"
"""Stands in an environment while it is being changed; an environment found with it is replaced, never repaired."""

_LIST = "conda-meta/lock.txt"
"""The lock that an environment was made from, beside the records of its packages."""


@click.command("dev", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", default="token-service", show_default=True, help="Environment, as named in its file.")
@json_option
@drift_option
def command(*, name: str, as_json: bool, drift: str) -> None:
    """Create or update .slipway/envs/NAME from the locked channel, and prune what is no longer declared.

    Refuses while a prefix that is not this project's is active: programs of both would be found by chance.
    """
    from slipway.channel.ensure import ensure_channel  # noqa: PLC0415 - imports of the work stay out of --help

    started = time.monotonic()
    prefix = paths.ENVS / name
    check_active_prefix(os.environ, prefix)
    ensure_channel(drift)
    lines = update_environment(name, prefix)
    for line in lines:
        say(f"dev: {line}")
    seconds = time.monotonic() - started
    done = "updated" if lines else "nothing changed"
    say(f"dev: {done} in {seconds:.1f} s; run {prefix.relative_to(paths.ROOT)}/bin/python")
    if as_json:
        click.echo(json.dumps({"changed": bool(lines), "prefix": str(prefix), "seconds": round(seconds, 2)}))


def check_active_prefix(environment: Mapping[str, str], prefix: Path) -> None:
    """Refuse when a conda environment or virtual environment is active that does not belong to this checkout.

    Args:
        environment: Environment variables.
        prefix: The environment that is to be changed.

    Raises:
        SlipwayError: a foreign prefix is active.
    """
    own = {prefix.resolve(), Path(sys.prefix).resolve()}
    for variable, leave in (("CONDA_PREFIX", "conda deactivate"), ("VIRTUAL_ENV", "deactivate")):
        value = environment.get(variable)
        if not value:
            continue
        active = Path(value).resolve()
        if active not in own and not active.is_relative_to(paths.ROOT.resolve()):
            raise SlipwayError(
                "another environment is active",
                seen=f"{variable}={value}",
                rule=f"none, or {prefix}",
                run=f"{leave}; nox -s dev",
            )


def update_environment(name: str, prefix: Path) -> list[str]:
    """Make `prefix` hold exactly the packages locked for the environment `name`, and the list of them.

    The list is what `python -m token_service.environment` compares the environment with.

    Returns:
        One line per package added, changed or removed; empty when nothing had to be done.

    Raises:
        SlipwayError: there is no such lock, or `prefix` is a folder that is not an environment.
    """
    from rattler import install  # noqa: PLC0415 - the same

    from slipway.channel.aio import run  # noqa: PLC0415 - the same

    records = locked_records(paths.LOCKS / f"{name}.lock", paths.CHANNEL)
    with _alone(prefix):
        if (prefix / _MARK).exists():
            say(f"dev: {prefix.name} was left half-changed; replacing it")
            shutil.rmtree(prefix)
        if prefix.exists() and not (prefix / "conda-meta").is_dir() and any(prefix.iterdir()):
            raise SlipwayError(
                f"{prefix} is in the way",
                seen="a folder without conda-meta",
                rule="an environment of this project, or nothing",
            )
        lines = _difference(_installed(prefix), {record.name.normalized: _identity(record) for record in records})
        if lines:
            prefix.mkdir(parents=True, exist_ok=True)
            (prefix / _MARK).touch()
            run(
                install(
                    records, target_prefix=prefix, cache_dir=paths.CACHE / "pkgs", show_progress=sys.stderr.isatty()
                )
            )
            (prefix / _MARK).unlink()
        explicit = (paths.LOCKS / f"{name}.linux-64.txt").read_bytes()
        if write_atomic(prefix / _LIST, explicit) and not lines:
            lines.append(f"{_LIST}: written")
    return lines


def locked_records(lock: Path, channel: Path) -> list[RepoDataRecord]:
    """Return the records of a rattler-lock file with their addresses in the local `channel`.

    Raises:
        SlipwayError: there is no such lock.
    """
    from rattler import LockFile  # noqa: PLC0415 - imports of the work stay out of --help

    from slipway.lock.store import CHANNEL_URL  # noqa: PLC0415 - the same

    if not lock.is_file():
        known = sorted(path.stem for path in lock.parent.glob("*.lock"))
        raise SlipwayError(
            f"there is no lock for the environment {lock.stem}",
            seen=f"locks of {', '.join(known) or 'no environment'}",
            rule="a name that environment.yml or environments/*.yml gives",
            run="nox -s lock",
        )
    environment = LockFile.from_path(lock).default_environment()
    records = environment.conda_repodata_records().get("linux-64", []) if environment else []
    base = channel.resolve().as_uri()
    for record in records:
        record.url = record.url.replace(CHANNEL_URL, base, 1)
    return records


def _identity(record: RepoDataRecord) -> str:
    digest = record.sha256.hex()[:12] if record.sha256 else ""
    return f"{record.version} {record.build} {digest}"


def _installed(prefix: Path) -> dict[str, str]:
    """Return conda name -> version, build and start of the checksum of what `prefix` holds."""
    found = {}
    for path in (prefix / "conda-meta").glob("*.json"):
        row = json.loads(path.read_text())
        found[row["name"]] = f"{row['version']} {row['build']} {str(row.get('sha256') or '')[:12]}"
    return found


def _difference(old: dict[str, str], new: dict[str, str]) -> list[str]:
    lines = []
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            before, after = (
                " ".join(rows.get(name, word).split()[:2]) for rows, word in ((old, "new"), (new, "removed"))
            )
            lines.append(f"{name}: {before} -> {after}")
    return lines


@contextmanager
def _alone(prefix: Path) -> Iterator[None]:
    """Let one process at a time change `prefix`."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with (prefix.parent / f".{prefix.name}.lock").open("w") as handle:
        flock(handle, LOCK_EX)
        yield
