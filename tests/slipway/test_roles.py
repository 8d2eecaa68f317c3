"""The check that keeps role documentation true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway import roles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def role(tmp_path: Path) -> Path:
    """A role whose specs, defaults and README agree."""
    folder = tmp_path / "engine"
    (folder / "meta").mkdir(parents=True)
    (folder / "defaults").mkdir()
    (folder / "defaults" / "main.yml").write_text("engine_port: 80\n")
    (folder / "meta" / "argument_specs.yml").write_text(
        "argument_specs: {main: {options: {engine_port: {type: int, default: 80, description: Port.}}}}\n"
    )
    (folder / "README.md").write_text("# engine\n")
    (folder / "README.md").write_text(roles._with_table(folder))  # noqa: SLF001 - the generator under test
    return folder


def test_agreeing_role_has_no_problems(role: Path) -> None:
    """The generated table is part of the README and stable."""
    assert list(roles.problems(role)) == []
    assert "| `engine_port` | int | `80` | Port. |" in (role / "README.md").read_text()


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        ("engine_port: 81\n", "has default 80 in argument_specs and 81 in defaults"),
        ("engine_port: 80\nengine_log: x\n", "default engine_log is not in argument_specs"),
        ("{}\n", "is neither required nor in defaults/main.yml"),
        ("engine_port: '80'\n", "has type int in argument_specs and the value '80' in defaults"),
    ],
)
def test_drift_is_named(role: Path, defaults: str, expected: str) -> None:
    """Each way in which defaults can leave the specs is one line that names the variable."""
    (role / "defaults" / "main.yml").write_text(defaults)
    assert any(expected in line for line in roles.problems(role))


def test_stale_table_is_named(role: Path) -> None:
    """A README edited by hand inside the table is found."""
    readme = role / "README.md"
    readme.write_text(readme.read_text().replace("Port.", "Something else."))
    assert any("stale" in line for line in roles.problems(role))
