"""The channel's own Python, installed aside, so that pip evaluates environment markers as the environments will."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from typing import TYPE_CHECKING

from rattler import RepoDataRecord, install

from slipway import paths
from slipway.channel.aio import run

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.channel.artefact import Artefact


def install_interpreter(channel: Path, artefacts: list[Artefact]) -> Path:
    """Install `artefacts`, CPython and its libraries, from `channel` once, and return the interpreter's path."""
    key = hashlib.sha256("".join(sorted(artefact.sha256 for artefact in artefacts)).encode()).hexdigest()[:12]
    prefix = paths.CACHE / "interpreter" / key
    if not (prefix / ".complete").is_file():
        shutil.rmtree(prefix.parent, ignore_errors=True)
        run(_install([channel / artefact.path for artefact in artefacts], prefix))
        (prefix / ".complete").touch()
    return prefix / "bin" / "python"


async def _install(packages: list[Path], prefix: Path) -> None:
    records = await asyncio.gather(*(RepoDataRecord.from_package_archive(path) for path in packages))
    await install(list(records), target_prefix=prefix, cache_dir=paths.CACHE / "pkgs", show_progress=False)
