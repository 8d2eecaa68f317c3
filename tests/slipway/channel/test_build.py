"""Building a channel from a lock, with pip talking to an index of the test's own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from slipway import paths
from slipway.channel.artefact import Artefact, Recipe, Wheel
from slipway.channel.build import build_channel
from slipway.channel.convert import Job, convert
from slipway.channel.report import Report
from slipway.deb import LockDrift
from slipway.errors import SlipwayError
from slipway.lock.store import ChannelLock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.slipway.conftest import PythonIndex


def _lock(tmp_path: Path, *wheels: Path) -> ChannelLock:
    """Return a lock of noarch packages as converting `wheels` gives them."""
    artefacts = []
    for path in wheels:
        name, version = path.name.split("-")[:2]
        wheel = Wheel(name, version, path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        recipe = Recipe(name, version, "noarch", "wheel", "MIT", ("python",), wheel=wheel)
        artefacts.append(convert(Job(recipe, (path,)), tmp_path)[1])
    return ChannelLock({}, artefacts)


def _build(lock: ChannelLock) -> tuple[bool, int]:
    built = build_channel(lock, "stable", Report("test"))
    return built.changed, built.converted


def test_second_build_changes_nothing(index: PythonIndex, tmp_path: Path) -> None:
    """The first build fetches, converts and indexes; the second finds all in place."""
    lock = _lock(tmp_path, index.add("alpha"), index.add("beta"))
    assert _build(lock) == (True, 2)
    assert _build(lock) == (False, 0)
    repodata = json.loads((paths.CHANNEL / "noarch/repodata.json").read_text())
    hashes = {row["name"]: row["sha256"] for row in repodata["packages.conda"].values()}
    assert hashes == {one.recipe.name: one.sha256 for one in lock.artefacts}
    assert len(list((paths.CHANNEL / "noarch/shards").iterdir())) == 2
    assert (paths.CHANNEL / "noarch/repodata.json.zst").is_file()


def test_package_changed_by_hand_is_replaced(index: PythonIndex, tmp_path: Path) -> None:
    """A .conda that is not the locked one is made again; one that is not locked at all is removed."""
    lock = _lock(tmp_path, index.add("alpha"))
    _build(lock)
    package = paths.CHANNEL / lock.artefacts[0].path
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    stranger = package.with_name("stranger-1-0.conda")
    stranger.write_bytes(package.read_bytes())
    assert _build(lock) == (True, 1)
    assert hashlib.sha256(package.read_bytes()).hexdigest() == lock.artefacts[0].sha256
    assert not stranger.exists()


def test_interrupted_build_is_finished(index: PythonIndex, tmp_path: Path) -> None:
    """What a killed build left, half a package and no index, does not stop the next one."""
    lock = _lock(tmp_path, index.add("alpha"))
    left = paths.CHANNEL / ".convert-killed" / "half.conda"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    (paths.CACHE / "wheels" / ".download-killed").mkdir(parents=True)
    assert _build(lock) == (True, 1)
    assert not left.parent.exists()


def test_package_that_converts_to_other_bytes_is_refused(index: PythonIndex, tmp_path: Path) -> None:
    """The message names the file, the SHA-256 seen and the one locked; the channel does not get the file."""
    lock = _lock(tmp_path, index.add("alpha"))
    wrong = replace(lock.artefacts[0], sha256="0" * 64)
    with pytest.raises(SlipwayError, match=wrong.recipe.file) as caught:
        _build(ChannelLock({}, [wrong]))
    assert lock.artefacts[0].sha256 in caught.value.seen
    assert "0" * 64 in caught.value.rule
    assert not (paths.CHANNEL / wrong.path).exists()


def test_wheel_with_other_content_is_refused(index: PythonIndex, tmp_path: Path) -> None:
    """The index serves a changed file under a locked name: both checksums are shown and nothing is kept."""
    lock = _lock(tmp_path, index.add("alpha"))
    index.add("alpha", files={"alpha/evil.py": "x"})
    with pytest.raises(SlipwayError) as caught:
        _build(lock)
    assert not isinstance(caught.value, LockDrift)
    wheel = lock.artefacts[0].recipe.wheel
    assert wheel is not None
    assert wheel.sha256 in caught.value.rule
    assert not list((paths.CACHE / "wheels").glob("*/*.whl"))


def test_vanished_wheel_is_drift(index: PythonIndex, tmp_path: Path) -> None:
    """A version that the index no longer lists is reported as drift, by name and version."""
    path = index.add("alpha")
    lock = _lock(tmp_path, path)
    path.unlink()
    index.publish("alpha")
    with pytest.raises(LockDrift) as caught:
        _build(lock)
    assert caught.value.vanished == ["alpha 1.0"]


def test_vanished_wheel_in_the_cache_is_no_drift(index: PythonIndex, tmp_path: Path) -> None:
    """What is in the cache by its SHA-256 needs no index."""
    path = index.add("alpha")
    lock = _lock(tmp_path, path)
    artefact: Artefact = lock.artefacts[0]
    _build(lock)
    path.unlink()
    index.publish("alpha")
    (paths.CHANNEL / artefact.path).unlink()
    assert _build(lock) == (True, 1)


def test_download_that_breaks_off_leaves_nothing(index: PythonIndex, tmp_path: Path) -> None:
    """Half a wheel is not kept; the next run gets it whole."""
    lock = _lock(tmp_path, index.add("alpha", files={"alpha/big.txt": "x" * 300_000}))
    index.truncate.add(".whl")
    with pytest.raises(SlipwayError) as caught:
        _build(lock)
    assert not isinstance(caught.value, LockDrift)
    assert list((paths.CACHE / "wheels").iterdir()) == []
    index.truncate.clear()
    assert _build(lock) == (True, 1)


def test_index_that_does_not_answer_is_reported(
    index: PythonIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens: no drift, and the message points at pip's configuration."""
    lock = _lock(tmp_path, index.add("alpha"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(SlipwayError, match="does not answer") as caught:
        _build(lock)
    assert not isinstance(caught.value, LockDrift)
    assert "pip" in caught.value.edit
