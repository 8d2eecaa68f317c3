"""channel.yml: mistakes are shown with their line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway import paths
from slipway.channel.config import read_config
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name: slipway\nsuite: bookworm\ndefault: wheel\n"


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("name: [a\n", 2, "YAML"),
        (HEAD + "colour: red\n", 4, "colour"),
        (HEAD + "packages:\n  a: {upstream: rpm}\n", 5, "rpm"),
        (HEAD + "packages:\n  a:\n    upstream: deb\n    debs: [x]\n", 6, "licence"),
        (HEAD + "packages:\n  a:\n    upstream: wheel\n    exclude: all\n", 7, "all"),
        ("- a\n", 1, "mapping"),
    ],
)
def test_mistake_is_shown_with_its_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    """The message gives file, line, what was seen and what was expected."""
    path = tmp_path / "channel.yml"
    path.write_text(text)
    with pytest.raises(SlipwayError) as caught:
        read_config(path)
    assert f"channel.yml:{line}" in str(caught.value)
    assert word in str(caught.value)


def test_names_map_both_ways() -> None:
    """Pytorch is torch on the index; a name without an entry is the index's normalised one."""
    config = read_config(paths.ROOT / "channel.yml")
    assert config.index_name("pytorch") == "torch"
    assert config.conda_name("torch") == "pytorch"
    assert config.conda_name("Uvicorn_Worker") == "uvicorn-worker"
