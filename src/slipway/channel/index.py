"""Index the channel: repodata.json, its zstd form and shards, for both subfolders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rattler.index import index_fs

if TYPE_CHECKING:
    from pathlib import Path

SUBDIRS = ("linux-64", "noarch")


def index_channel(channel: Path) -> None:
    """Write repodata for every subfolder of `channel`, which need not exist yet."""
    for subdir in SUBDIRS:
        (channel / subdir).mkdir(parents=True, exist_ok=True)
    asyncio.run(index_fs(channel, write_zst=True, write_shards=True, force=True))
