"""environment.yml: mistakes are shown with their line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.errors import SlipwayError
from slipway.lock.environment import read_environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("name: a\ndependencies:\n  - python\n - b\n", 4, "YAML"),
        ("name: a\n", 1, "dependencies"),
        ("name: a\ndependencies: python\n", 2, "list"),
        ("name: a\ndependencies:\n  - python\n  - pip: [x]\n", 4, "text"),
        ("name: a\ndependencies:\n  - python\n  - python=3.11\n", 4, "python"),
        ("name: a\ndependencies:\n  - numpy=>=1\n", 3, "numpy"),
        ("name: a\nprefix: /x\ndependencies: []\n", 2, "prefix"),
    ],
)
def test_mistake_is_shown_with_its_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    """The message gives file, line, what was seen and what was expected."""
    path = tmp_path / "environment.yml"
    path.write_text(text)
    with pytest.raises(SlipwayError) as caught:
        read_environment(path)
    assert f"environment.yml:{line}" in str(caught.value)
    assert word in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """No file gives the same kind of message as a wrong one."""
    with pytest.raises(SlipwayError, match=r"environment\.yml is missing"):
        read_environment(tmp_path / "environment.yml")


def test_pin_is_understood(tmp_path: Path) -> None:
    """`=` and `==` pin; a range does not."""
    path = tmp_path / "environment.yml"
    path.write_text("name: a\ndependencies:\n  - b=1.0\n  - c==2\n  - d>=3\n  - e\n")
    found = {one.name: one.version for one in read_environment(path).dependencies}
    assert found == {"b": "1.0", "c": "2", "d": "", "e": ""}
