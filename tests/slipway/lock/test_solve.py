"""Solving an environment against a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.channel.artefact import Content, Recipe
from slipway.channel.conda_file import write_conda
from slipway.channel.index import index_channel
from slipway.errors import SlipwayError
from slipway.lock.environment import Dependency, Environment
from slipway.lock.solve import render_explicit, render_lock, solve_environment
from slipway.lock.store import CHANNEL_URL

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """A channel in which alpha needs beta below 2, and there are two betas."""
    folder = tmp_path / "channel"
    for name, version, depends in (("alpha", "1.0", ("beta <2",)), ("beta", "1.0", ()), ("beta", "2.0", ())):
        recipe = Recipe(name, version, "noarch", "deb", "MIT", depends)
        (folder / "noarch").mkdir(parents=True, exist_ok=True)
        write_conda(recipe, Content([], {}), folder / "noarch" / recipe.file)
    index_channel(folder)
    return folder


def _environment(*specs: str) -> Environment:
    return Environment("test", "environment.yml", [Dependency(spec, spec.split("=")[0], "", 1) for spec in specs])


def test_solution_has_the_channels_address(channel: Path, tmp_path: Path) -> None:
    """Locks name the place the channel is served from, never a folder of this machine."""
    records = solve_environment(_environment("alpha"), channel)
    assert [(one.name.normalized, str(one.version)) for one in records] == [("alpha", "1.0"), ("beta", "1.0")]
    lock = render_lock(records, tmp_path / "scratch")
    explicit = render_explicit(records)
    assert str(tmp_path) not in lock + explicit
    assert lock.count(f"{CHANNEL_URL}/noarch/") == 4
    assert explicit.splitlines()[1] == "@EXPLICIT"


def test_unsolvable_environment_shows_the_solvers_explanation(channel: Path) -> None:
    """Which requirement excludes which: the solver says, and the user reads it."""
    with pytest.raises(SlipwayError) as caught:
        solve_environment(_environment("alpha", "beta=2.0"), channel)
    assert "beta" in caught.value.seen
    assert "alpha" in caught.value.seen
    assert caught.value.edit == "environment.yml"


def test_package_nobody_provides_is_named(channel: Path) -> None:
    """A name that is not in the channel appears in the message."""
    with pytest.raises(SlipwayError) as caught:
        solve_environment(_environment("gamma"), channel)
    assert "gamma" in caught.value.seen


def test_same_packages_give_the_same_index(channel: Path) -> None:
    """Indexing again writes the same repodata and the same shards."""
    before = {path: path.read_bytes() for path in channel.glob("noarch/repodata.json*")}
    shards = {path.name for path in channel.glob("noarch/shards/*")}
    index_channel(channel)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in channel.glob("noarch/shards/*")} == shards
