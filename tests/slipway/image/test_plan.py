"""Keys: they change exactly when an image must be rebuilt."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from slipway.errors import SlipwayError
from slipway.image import locks
from slipway.image.hierarchy import load
from slipway.image.plan import make_plans
from tests.slipway.image.conftest import write_locks

if TYPE_CHECKING:
    from pathlib import Path


def _keys(checkout: Path) -> dict[str, str]:
    locks._read.cache_clear()  # noqa: SLF001 - a run reads the locks once; here they change between runs
    hierarchy = load(checkout / "images/hierarchy.yml")
    return {name: plan.key for name, plan in make_plans(hierarchy, hierarchy.names).items()}


def _changed(checkout: Path, before: dict[str, str]) -> set[str]:
    return {name for name, key in _keys(checkout).items() if key != before[name]}


def test_same_inputs_give_same_keys(checkout: Path) -> None:
    """Times, documentation and bytecode do not matter."""
    before = _keys(checkout)
    os.utime(checkout / "src/app/main.py", (1, 1))
    (checkout / "images/service/README.md").write_text("for people\n")
    (checkout / "src/app/__pycache__").mkdir()
    (checkout / "src/app/__pycache__/main.cpython-311.pyc").write_bytes(b"x")
    assert _changed(checkout, before) == set()


def test_code_rebuilds_the_service_alone(checkout: Path) -> None:
    """A changed line of code reaches no other image."""
    before = _keys(checkout)
    (checkout / "src/app/main.py").write_text("print(2)\n")
    assert _changed(checkout, before) == {"service"}


def test_an_executable_bit_counts(checkout: Path) -> None:
    """Modes that git knows are content."""
    before = _keys(checkout)
    (checkout / "src/app/main.py").chmod(0o755)
    assert _changed(checkout, before) == {"service"}


def test_a_conda_package_rebuilds_the_service_alone(checkout: Path) -> None:
    """The environment's lock reaches the image that holds it."""
    before = _keys(checkout)
    write_locks(checkout / "locks", package="c" * 64)
    assert _changed(checkout, before) == {"service"}


def test_a_debian_package_rebuilds_all_on_top(checkout: Path) -> None:
    """A change of the root reaches every image."""
    before = _keys(checkout)
    write_locks(checkout / "locks", deb="d" * 64)
    assert _changed(checkout, before) == {"base", "builder", "service"}


def test_uncovered_package_asks_for_a_lock(checkout: Path) -> None:
    """A package that the hierarchy names and the lock lacks stops before any build."""
    path = checkout / "images/hierarchy.yml"
    path.write_text(path.read_text().replace("[libc6]", "[libc6, dash]"))
    with pytest.raises(SlipwayError, match="not locked: dash") as caught:
        _keys(checkout)
    assert caught.value.run == "nox -s lock"


def test_foreign_channel_is_refused_with_its_line(checkout: Path) -> None:
    """The explicit list may name the private channel only."""
    path = checkout / "locks/service.linux-64.txt"
    path.write_text("@EXPLICIT\nhttp://example.invalid/noarch/x.conda#sha256:0\n")
    with pytest.raises(SlipwayError) as caught:
        _keys(checkout)
    assert caught.value.edit == f"{path}:2"
