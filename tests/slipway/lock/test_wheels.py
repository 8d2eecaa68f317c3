"""Choosing wheels: what is locked stays, under both policies for what has vanished."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slipway.channel.artefact import Artefact, Recipe, Wheel
from slipway.channel.config import ChannelConfig
from slipway.deb import LockDrift
from slipway.errors import SlipwayError
from slipway.lock.environment import Dependency, Environment
from slipway.lock.recipes import WheelRecipes
from slipway.lock.wheels import WheelLocker

if TYPE_CHECKING:
    from tests.slipway.conftest import PythonIndex

CONFIG = ChannelConfig("test", "stable", "wheel", {}, {})
PYTHON = Path(sys.executable)


def _environment(*specs: str) -> Environment:
    rows = [Dependency(spec, spec.split("=")[0], spec.partition("=")[2], 1) for spec in specs]
    return Environment("test", "environment.yml", rows)


def _lock(
    *specs: str, old: list[Artefact] | None = None, drift: str = "relock", upgrade: frozenset[str] = frozenset()
) -> dict[str, Wheel]:
    wheels = WheelLocker(CONFIG, old or [], upgrade, drift).resolve([_environment(*specs)], PYTHON)
    return {wheel.name: wheel for wheel in wheels}


def _artefacts(wheels: dict[str, Wheel]) -> list[Artefact]:
    rows = [Recipe(w.name, w.version, "noarch", "wheel", "MIT", (), wheel=w) for w in wheels.values()]
    return [Artefact(row, "0" * 64, 1) for row in rows]


def test_locked_version_is_kept(index: PythonIndex) -> None:
    """A newer release does not move a lock; asking for an upgrade does."""
    index.add("alpha", requires="beta")
    index.add("beta", "1.0")
    old = _artefacts(_lock("alpha"))
    index.add("beta", "2.0")
    assert _lock("alpha", old=old)["beta"].version == "1.0"
    assert _lock("alpha", old=old, upgrade=frozenset({"beta"}))["beta"].version == "2.0"


def test_vanished_version_alone_moves(index: PythonIndex) -> None:
    """`relock` replaces what has vanished and keeps the rest; `fail` names it."""
    index.add("alpha", requires="beta\ngamma")
    beta = index.add("beta", "1.0")
    index.add("gamma", "1.0")
    old = _artefacts(_lock("alpha"))
    beta.unlink()
    index.add("beta", "1.1")
    index.add("gamma", "2.0")
    moved = _lock("alpha", old=old)
    assert (moved["beta"].version, moved["gamma"].version) == ("1.1", "1.0")
    with pytest.raises(LockDrift) as caught:
        _lock("alpha", old=old, drift="fail")
    assert caught.value.vanished == ["beta==1.0"]


def test_unknown_package_is_named(index: PythonIndex) -> None:
    """A name that no upstream provides: pip's words, and where to mend it."""
    index.add("alpha")
    with pytest.raises(SlipwayError) as caught:
        _lock("alpha", "no-such-package=1.0")
    assert "no-such-package" in caught.value.seen
    assert "environment.yml" in caught.value.edit


def test_contradiction_is_explained(index: PythonIndex) -> None:
    """Two requirements that exclude one another are both named."""
    index.add("alpha", requires="beta<2")
    index.add("beta", "1.0")
    index.add("beta", "2.0")
    with pytest.raises(SlipwayError) as caught:
        _lock("alpha", "beta=2.0")
    assert "alpha" in caught.value.seen
    assert "beta" in caught.value.seen


def test_requirements_become_depends(index: PythonIndex) -> None:
    """Markers are evaluated for the channel's Python; an extra's requirements are spelt out; noarch stays honest."""
    index.add("alpha", requires='beta[fast]>=1,<3\nnever; python_version < "3.0"\nlinux; sys_platform == "linux"')
    index.add("beta", "2.0", requires='gamma>=1; extra == "fast"\ndelta; extra == "slow"', extras="fast slow")
    index.add("gamma", "1.0")
    index.add("linux", "1.0")
    wheels = WheelLocker(CONFIG, [], frozenset(), "relock").resolve([_environment("alpha")], PYTHON)
    from slipway.channel.pip import fetch_wheels  # noqa: PLC0415 - after the fixture has moved the cache

    recipes = {recipe.name: recipe for recipe in WheelRecipes(CONFIG, fetch_wheels(wheels), "3.11.2").all()}
    assert set(recipes) == {"alpha", "beta", "gamma", "linux"}
    assert recipes["alpha"].depends == ("beta <3,>=1", "gamma >=1", "linux", "python >=3.11,<3.12.0a0")
    assert recipes["alpha"].subdir == "linux-64"
    assert recipes["beta"].subdir == "noarch"
