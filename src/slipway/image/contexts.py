"""Build contexts: folders that hold exactly what a build may read, with fixed times and modes.

Copying a file into a layer keeps its time, so times are set here; that is what makes the layers reproducible without
rewriting them afterwards.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipway import paths
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCH = 1767225600
"""SOURCE_DATE_EPOCH of every image, seconds since 1970: 2026-01-01. A fixed date, so that content alone decides."""

_SPREAD = 10_000_000
"""Seconds before `EPOCH` over which the times of files are spread: four months."""

_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*.swp", ".mypy_cache", ".ruff_cache")


@dataclass
class Context:
    """One named folder that a build may read.

    Attributes:
        name: Its name in the Dockerfile.
        files: Path inside the context -> where it is now.
        hashes: Path inside the context -> SHA-256, for files whose content is already known by a lock.
    """

    name: str
    files: dict[str, Path]
    hashes: dict[str, str] = field(default_factory=dict)

    def key(self) -> str:
        """Return a SHA-256 over names, executable bits and contents."""
        total = hashlib.sha256()
        for target, source in sorted(self.files.items()):
            content = self.hashes.get(target) or hashlib.sha256(source.read_bytes()).hexdigest()
            total.update(f"{target} {_mode(source) if target not in self.hashes else 0o644:o} {content}\n".encode())
        return total.hexdigest()

    def stage(self, folder: Path) -> Path:
        """Make `folder` hold exactly these files. Files known by hash are linked, the others copied.

        Raises:
            SlipwayError: a source file is missing.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for target, source in sorted(self.files.items()):
            place = folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                _place(source, place, link=target in self.hashes)
            except FileNotFoundError as error:
                raise SlipwayError(
                    "a file that an image is built from is missing",
                    seen=str(source),
                    rule="the channel holds every locked package",
                    run="nox -s channel",
                ) from error
        for directory, _, _ in os.walk(folder, topdown=False):
            os.utime(directory, (EPOCH, EPOCH))
        return folder


def folder_context(name: str, source: Path, below: str = "") -> Context:
    """Describe a folder of the checkout, without bytecode and editor files.

    Args:
        name: The context's name in the Dockerfile.
        source: The folder.
        below: Where its files appear inside the context.

    Raises:
        SlipwayError: the folder is missing or empty.
    """
    files = {f"{below}{path.relative_to(source)}": path for path in _walk(source)}
    if not files:
        raise SlipwayError(
            f"there is nothing to build {name} from", seen=str(source), rule="a folder with files", run="git status"
        )
    return Context(name, files)


def staging_root() -> Path:
    """Return the folder that holds the staged contexts."""
    return paths.STATE / "images" / "contexts"


def _walk(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    names = sorted(entry.name for entry in folder.iterdir())
    ignored = _IGNORED(str(folder), names)
    for name in names:
        path = folder / name
        if name in ignored:
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _mode(path: Path) -> int:
    """Return the two modes git knows: a checkout's umask must not reach the image."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _place(source: Path, place: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(source, place)
        except FileNotFoundError:
            raise
        except OSError:  # another file system
            shutil.copyfile(source, place)
        return
    content = source.read_bytes()
    place.write_bytes(content)
    place.chmod(_mode(source))
    # BuildKit takes a file of the same name, size and time for the one it received earlier, so that equal times for all
    # would hide a change. The content decides the time: the same everywhere, another one after an edit.
    moment = EPOCH - int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % _SPREAD
    os.utime(place, (moment, moment))
