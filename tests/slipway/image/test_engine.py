"""Finding a client that can build, and telling the two image stores apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.errors import SlipwayError
from slipway.image import engine as engine_module
from slipway.image.build import _packing
from slipway.image.engine import Engine, find_engine, is_containerd_store
from slipway.image.hierarchy import load
from slipway.image.plan import make_plans

if TYPE_CHECKING:
    from pathlib import Path

_STATUS = '[["driver-type","io.containerd.snapshotter.v1"]]'


def _client(folder: Path, script: str) -> Path:
    folder.mkdir()
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own clients out of the search."""
    monkeypatch.delenv("SLIPWAY_DOCKER", raising=False)
    found = engine_module._candidates  # noqa: SLF001 - its fixed folders are what has to be left out
    monkeypatch.setattr(
        engine_module, "_candidates", lambda path: [name for name in found(path) if not name.startswith("/usr/")]
    )


@pytest.mark.usefixtures("only_path")
def test_client_without_buildx_is_passed_over(tmp_path: Path) -> None:
    """A stale client that shadows a complete one does no harm."""
    stale = _client(tmp_path / "stale", "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1")
    good = _client(tmp_path / "good", f"[ $1 = info ] && echo '{_STATUS}|26.1.5'; exit 0")
    engine = find_engine(f"{stale.parent}:{good.parent}")
    assert engine == Engine(client=str(good), snapshotter=True)


@pytest.mark.usefixtures("only_path")
def test_no_client_with_buildx_lists_what_was_tried(tmp_path: Path) -> None:
    """The message names every client that was found and the package that is missing."""
    stale = _client(tmp_path / "stale", "echo no such command >&2; exit 1")
    with pytest.raises(SlipwayError, match="docker-buildx") as caught:
        find_engine(str(stale.parent))
    assert f"{stale}: no such command" in caught.value.seen


@pytest.mark.usefixtures("only_path")
def test_silent_engine_is_reported(tmp_path: Path) -> None:
    """A client without an engine says what the engine said."""
    client = _client(
        tmp_path / "bin", "[ $1 = info ] && { echo 'Cannot connect to the Docker daemon' >&2; exit 1; }; exit 0"
    )
    with pytest.raises(SlipwayError, match="does not answer") as caught:
        find_engine(str(client.parent))
    assert caught.value.seen == "Cannot connect to the Docker daemon"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(_STATUS, True), ('[["Backing Filesystem","extfs"]]', False), ("null", False), ("", False), ("nonsense", False)],
)
def test_store_is_told_by_driver_status(status: str, *, expected: bool) -> None:
    """`docker info` shows the snapshotter only for containerd's store."""
    assert is_containerd_store(status) is expected


def test_packing_fits_the_store(checkout: Path) -> None:
    """Only containerd's store is asked for zstd; what is never pushed is not packed."""
    hierarchy = load(checkout / "images/hierarchy.yml")
    plans = make_plans(hierarchy, hierarchy.names)
    new, classic = Engine("docker", snapshotter=True), Engine("docker", snapshotter=False)
    assert "compression=zstd" in _packing(new, plans["base"])
    assert "compression=uncompressed" in _packing(new, plans["builder"])
    assert _packing(classic, plans["base"]) == ""
