"""The registry image: it takes every image of the hierarchy, once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from slipway import paths
from slipway.image.build import local_tag
from slipway.image.push import push_images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipway.image.engine import Engine
    from slipway.image.hierarchy import Hierarchy


@pytest.fixture
def address(engine: Engine) -> Iterator[str]:
    """Yield HOST:PORT of an empty registry, run as role `image_registry` runs it."""
    options = ["--detach", "--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--publish=127.0.0.1::5000"]
    volume = ["--volume=/var/lib/slipway-registry"]
    name = engine.run("run", *options, *volume, local_tag("registry")).stdout.strip()
    ready = "until /usr/lib/slipway/http-check 5000 /; do sleep 0.1; done 2>/dev/null"
    engine.run("exec", name, "timeout", "30", "sh", "-c", ready)
    yield engine.run("port", name, "5000").stdout.strip()
    engine.run("rm", "--force", "--volumes", name)


def test_takes_every_image_once(
    engine: Engine, hierarchy: Hierarchy, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push sends all images; the next one finds them by digest; what is pulled is what was built."""
    shutil.copytree(paths.STATE / "images", tmp_path / "images", ignore=shutil.ignore_patterns("contexts"))
    monkeypatch.setattr(paths, "STATE", tmp_path)
    monkeypatch.setattr(paths, "IMAGES", tmp_path)
    first = push_images(engine, hierarchy, address)
    try:
        assert first.pushed == [name for name in hierarchy.names if hierarchy[name].pushed]
        second = push_images(engine, hierarchy, address)
        assert (second.changed, second.pushed) == (False, [])
        built = json.loads(engine.run("image", "inspect", "--format", "{{json .Id}}", local_tag("channel")).stdout)
        pulled = engine.run("pull", "--quiet", str(first.images["channel"]["reference"]))
        assert pulled.returncode == 0, pulled.stderr
        if engine.snapshotter:
            assert first.images["channel"]["digest"] == built
    finally:
        for name, row in first.images.items():
            engine.run("image", "rm", f"{address}/slipway/{name}:{row['tag']}", str(row["reference"]))
