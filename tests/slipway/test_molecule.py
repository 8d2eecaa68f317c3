"""`slipway.molecule`: finding and choosing scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from slipway.errors import SlipwayError
from slipway.molecule import Scenario, chosen, command, scenarios

if TYPE_CHECKING:
    from pathlib import Path

_KNOWN = [Scenario("default", "The defaults."), Scenario("no_init", "Nothing.")]


def test_purpose_is_the_leading_comment(tmp_path: Path) -> None:
    """A scenario explains itself in its molecule.yml; `default` comes first."""
    for name, text in {
        "a": "---\n# First line\n# and second.\nansible: {}\n# not this\n",
        "default": "---\n{}\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "molecule.yml").write_text(text)
    assert scenarios(tmp_path) == [Scenario("default", ""), Scenario("a", "First line and second.")]


def test_folder_without_molecule_yml_is_no_scenario(tmp_path: Path) -> None:
    """Shared playbooks lie beside the scenarios."""
    (tmp_path / "shared").mkdir()
    assert scenarios(tmp_path) == []


def test_no_name_means_all() -> None:
    """`nox -s molecule` runs everything."""
    assert chosen((), _KNOWN) == _KNOWN


def test_a_name_given_twice_runs_once() -> None:
    """Two runs of one scenario would fight over its hosts."""
    assert chosen(("no_init", "no_init"), _KNOWN) == [_KNOWN[1]]


def test_unknown_name_lists_the_known_ones() -> None:
    """A misspelt scenario is refused with the names there are."""
    with pytest.raises(SlipwayError) as refusal:
        chosen(("defualt",), _KNOWN)
    assert "defualt" in str(refusal.value)
    assert "one of default, no_init" in str(refusal.value)


def test_every_scenario_of_the_repository_explains_itself() -> None:
    """`--list` prints one line for each."""
    printed = CliRunner().invoke(command, ["--list"]).output.splitlines()
    assert [line.split()[0] for line in printed][:1] == ["default"]
    assert all(len(line.split()) > 5 for line in printed)
