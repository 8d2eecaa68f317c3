"""`slipway dev`: the environment follows its lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway import paths
from slipway.channel.aio import run
from slipway.channel.artefact import Content, Member, Recipe
from slipway.channel.conda_file import write_conda
from slipway.channel.index import index_channel
from slipway.dev import check_active_prefix, update_environment
from slipway.errors import SlipwayError
from slipway.lock.environment import Dependency, Environment
from slipway.lock.solve import render_explicit, render_lock, solve_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own with a channel of two packages, alpha in two versions."""
    for name in ("CACHE", "CHANNEL", "ENVS", "LOCKS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    folder = paths.CHANNEL / "noarch"
    folder.mkdir(parents=True)
    for name, version in (("alpha", "1.0"), ("alpha", "2.0"), ("beta", "1.0")):
        recipe = Recipe(name, version, "noarch", "deb", "MIT", ())
        member = Member(f"share/{name}.txt", version.encode())
        write_conda(recipe, Content([member], {}), folder / recipe.file)
    index_channel(paths.CHANNEL)
    return tmp_path


def _lock(root: Path, *specs: str) -> None:
    rows = [Dependency(spec, spec.split("=")[0], "", 1) for spec in specs]
    records = solve_environment(Environment("env", "environment.yml", rows), paths.CHANNEL)
    paths.LOCKS.mkdir(exist_ok=True)
    (paths.LOCKS / "env.lock").write_text(render_lock(records, root / "scratch"))
    (paths.LOCKS / "env.linux-64.txt").write_text(render_explicit(records))


def test_environment_follows_its_lock(root: Path) -> None:
    """It is created, left alone, updated and pruned, and says what it did each time."""
    prefix = paths.ENVS / "env"
    _lock(root, "alpha=1.0", "beta")
    assert [line.split(" ")[0] for line in update_environment("env", prefix)] == ["alpha:", "beta:"]
    assert update_environment("env", prefix) == []
    _lock(root, "alpha=2.0")
    changed = update_environment("env", prefix)
    assert changed[0].startswith("alpha: 1.0 ")
    assert changed[1].endswith("-> removed")
    assert (prefix / "share/alpha.txt").read_text() == "2.0"
    assert not (prefix / "share/beta.txt").exists()


def test_environment_carries_its_lock(root: Path) -> None:
    """The explicit list lies beside the records, as it is, and comes back when it is lost."""
    prefix = paths.ENVS / "env"
    _lock(root, "alpha=1.0")
    update_environment("env", prefix)
    lock = prefix / "conda-meta/lock.txt"
    assert lock.read_bytes() == (paths.LOCKS / "env.linux-64.txt").read_bytes()
    lock.unlink()
    assert update_environment("env", prefix) == ["conda-meta/lock.txt: written"]
    assert update_environment("env", prefix) == []


def test_half_changed_environment_is_replaced(root: Path) -> None:
    """What a killed run left is thrown away, with everything in it."""
    prefix = paths.ENVS / "env"
    _lock(root, "alpha=1.0")
    update_environment("env", prefix)
    (prefix / ".slipway-incomplete").touch()
    (prefix / "share/alpha.txt").unlink()
    assert update_environment("env", prefix)
    assert (prefix / "share/alpha.txt").read_text() == "1.0"


def test_folder_that_is_no_environment_is_left_alone(root: Path) -> None:
    """Somebody's files are not overwritten."""
    prefix = paths.ENVS / "env"
    _lock(root, "alpha=1.0")
    prefix.mkdir(parents=True)
    (prefix / "thesis.txt").write_text("mine")
    with pytest.raises(SlipwayError, match="in the way"):
        update_environment("env", prefix)
    assert (prefix / "thesis.txt").read_text() == "mine"


def test_unknown_environment_is_named(root: Path) -> None:
    """The message lists the environments there are."""
    _lock(root, "alpha=1.0")
    with pytest.raises(SlipwayError, match="nowhere") as caught:
        update_environment("nowhere", paths.ENVS / "nowhere")
    assert "env" in caught.value.seen


@pytest.mark.parametrize("variable", ["CONDA_PREFIX", "VIRTUAL_ENV"])
def test_foreign_active_prefix_is_refused(variable: str, tmp_path: Path) -> None:
    """The message names the prefix and how to leave it."""
    with pytest.raises(SlipwayError, match="another environment") as caught:
        check_active_prefix({variable: "/opt/conda/envs/foreign"}, tmp_path / "env")
    assert "/opt/conda/envs/foreign" in caught.value.seen
    assert "deactivate" in caught.value.run


def test_own_prefix_may_be_active(tmp_path: Path) -> None:
    """The environment itself, and environments below the checkout, are no strangers."""
    prefix = tmp_path / "env"
    check_active_prefix({"CONDA_PREFIX": str(prefix)}, prefix)
    check_active_prefix({"VIRTUAL_ENV": str(paths.ROOT / ".nox/dev")}, prefix)
    check_active_prefix({}, prefix)


def test_result_of_a_coroutine_is_returned() -> None:
    """`run` hands results and errors through."""

    async def _answer() -> int:
        return 42

    assert run(_answer()) == 42
