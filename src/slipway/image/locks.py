"""What the locks say about an image: its Debian packages and its environment."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import yaml

from slipway import paths
from slipway.deb.model import Deb
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.image.hierarchy import Image

CHANNEL_URL = "http://127.0.0.1:8081/slipway"
"""Base address of every package in the locks; builds replace it by the folder they mount."""


def debs_of(image: Image, locks: Path | None = None) -> list[Deb]:
    """Return the Debian packages locked for an image on top of its parents, sorted by name.

    Raises:
        SlipwayError: the lock is missing or does not cover what the hierarchy names.
    """
    if not image.debs:
        return []
    path = (locks or paths.LOCKS) / "images.yml"
    rows = _read(path).get(image.name) or []
    debs = sorted(Deb.from_dict(row) for row in rows)
    missing = sorted(set(image.debs) - {deb.name for deb in debs})
    if missing:
        raise SlipwayError(
            f"the lock does not cover image {image.name}",
            seen=f"not locked: {', '.join(missing)}",
            rule="every package named in images/hierarchy.yml has a locked version",
            edit=str(path),
            run="nox -s lock",
        )
    return debs


def environment_lock(name: str, locks: Path | None = None) -> Path:
    """Return the rattler-lock file of an environment.

    Raises:
        SlipwayError: it does not exist.
    """
    path = (locks or paths.LOCKS) / f"{name}.lock"
    if not path.is_file():
        raise SlipwayError(
            f"environment {name} has no lock", seen=str(path), rule="an environment is locked first", run="nox -s lock"
        )
    return path


def explicit_packages(name: str, locks: Path | None = None) -> dict[str, str]:
    """Return `subdir/file` -> sha256 of every package of an environment, from its @EXPLICIT list.

    Raises:
        SlipwayError: the list is missing or a line is not `ADDRESS/SUBDIR/FILE#sha256:HASH`.
    """
    path = (locks or paths.LOCKS) / f"{name}.linux-64.txt"
    if not path.is_file():
        raise SlipwayError(f"environment {name} has no lock", seen=str(path), rule="locked first", run="nox -s lock")
    packages: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith(("#", "@")):
            continue
        address, _, digest = line.strip().partition("#")
        if not address.startswith(f"{CHANNEL_URL}/"):
            raise SlipwayError(
                f"{path.name} names a package of another channel",
                seen=line,
                rule=f"{CHANNEL_URL}/SUBDIR/FILE#HASH",
                edit=f"{path}:{number}",
                run="nox -s lock",
            )
        packages[address.removeprefix(f"{CHANNEL_URL}/")] = digest.removeprefix("sha256:")
    return packages


@cache
def _read(path: Path) -> dict[str, list[dict[str, str | int]]]:
    if not path.is_file():
        raise SlipwayError("the images are not locked", seen=str(path), rule="locked first", run="nox -s lock")
    # The C loader reads this generated file ten times faster; it is as safe as the other.
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    rows: dict[str, list[dict[str, str | int]]] = content["images"]
    return rows
