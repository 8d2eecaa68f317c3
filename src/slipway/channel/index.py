"""Index the channel: repodata.json, its zstd form and shards, for both subfolders."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from rattler.index import index_fs

from slipway.channel.aio import run
from slipway.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

SUBDIRS = ("linux-64", "noarch")
_TIME = 946684800000
"""2000-01-01 in milliseconds: `indexed_timestamp` of every package, so that the same packages give the same index."""


def index_channel(channel: Path) -> None:
    """Write repodata for every subfolder of `channel`, which need not exist yet.

    Equal packages give equal `repodata.json`, `repodata.json.zst` and shards; only the list of shards holds the time
    at which it was made, because its format asks for that.
    """
    for subdir in SUBDIRS:
        (channel / subdir).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(channel / subdir / "shards", ignore_errors=True)
    run(index_fs(channel, write_zst=False, write_shards=False, force=True))
    for subdir in SUBDIRS:
        repodata = channel / subdir / "repodata.json"
        content = json.loads(repodata.read_text())
        for record in content["packages.conda"].values():
            record["indexed_timestamp"] = _TIME
        write_atomic(repodata, json.dumps(content))
    # What repodata.json already says about a package is kept, so this only adds the other forms.
    run(index_fs(channel, write_zst=True, write_shards=True))
