"""The channel's own Python, installed aside, so that pip evaluates environment markers as the environments will."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from rattler import Channel, Gateway, MatchSpec, Subdir, install, solve
from rattler.virtual_package import VirtualPackage

from slipway import paths

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.channel.artefact import Recipe


def install_interpreter(channel: Path, python: Recipe) -> Path:
    """Install `python` with its libraries from `channel`, once per build of it, and return its program.

    Raises:
        SlipwayError: never; rattler's own errors pass through, as they are defects of the conversion.
    """
    prefix = paths.CACHE / "interpreter" / f"{python.version}-{python.build}"
    program = prefix / "bin" / "python"
    if not (prefix / ".complete").is_file():
        shutil.rmtree(prefix, ignore_errors=True)
        asyncio.run(_install(channel, f"python=={python.version}={python.build}", prefix))
        (prefix / ".complete").touch()
    return program


async def _install(channel: Path, spec: str, prefix: Path) -> None:
    records = await solve(
        sources=[Channel(channel.as_uri())],
        specs=[MatchSpec(spec)],
        gateway=Gateway(),
        platforms=[Subdir("linux-64"), Subdir("noarch")],
        virtual_packages=VirtualPackage.detect(),
    )
    await install(records, target_prefix=prefix, cache_dir=paths.CACHE / "pkgs", show_progress=False)
