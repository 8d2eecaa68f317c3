"""Lock the Debian packages of every image, each closure on top of its parents'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipway.errors import SlipwayError
from slipway.lock.store import load

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.deb import Archive, Deb


def lock_images(root: Path, archive: Archive, pins: dict[str, str]) -> dict[str, list[Deb]]:
    """Return image -> packages to add for it, for every image of `images/hierarchy.yml` that names packages.

    Args:
        root: The checkout.
        archive: The suite's packages.
        pins: Package name -> version to keep where the archive still has it.

    Raises:
        SlipwayError: the hierarchy is malformed, or the archive has no such package.
    """
    hierarchy = root / "images/hierarchy.yml"
    if not hierarchy.is_file():
        return {}
    images: dict[str, dict[str, Any]] = load(hierarchy)["images"]
    locked: dict[str, list[Deb]] = {}
    for name in images:
        _lock(name, images, archive, pins, locked)
    return {name: debs for name, debs in locked.items() if debs}


def _lock(
    name: str,
    images: dict[str, dict[str, Any]],
    archive: Archive,
    pins: dict[str, str],
    locked: dict[str, list[Deb]],
) -> dict[str, str]:
    """Lock `name` after its parents and return the versions installed in it."""
    if name not in images:
        raise SlipwayError(
            f"images/hierarchy.yml has no image {name}",
            seen=f"parent: {name}",
            rule=f"one of {', '.join(images)}",
            edit="images/hierarchy.yml",
        )
    row = images[name]
    installed = _lock(row["parent"], images, archive, pins, locked) if row.get("parent") else {}
    if name not in locked:
        locked[name] = archive.resolve(list(row.get("debs") or []), installed, pins)
    return {**installed, **{deb.name: deb.version for deb in locked[name]}}
