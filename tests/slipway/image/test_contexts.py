"""Staged build contexts: exactly the files, with times and modes that depend on content alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.errors import SlipwayError
from slipway.image.contexts import EPOCH, Context, folder_context

if TYPE_CHECKING:
    from pathlib import Path


def _stage(tmp_path: Path, content: str, mode: int = 0o644) -> Path:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "a.py").write_text(content)
    (source / "a.py").chmod(mode)
    return folder_context("x", source, below="app/").stage(tmp_path / "staged") / "app/a.py"


def test_time_follows_content(tmp_path: Path) -> None:
    """BuildKit compares size and time: an edit of equal size must change the time, and only an edit."""
    first = _stage(tmp_path, "1").stat().st_mtime
    again = _stage(tmp_path, "1").stat().st_mtime
    other = _stage(tmp_path, "2").stat().st_mtime
    assert first == again
    assert first != other
    assert max(first, other) <= EPOCH


def test_mode_is_one_that_git_knows(tmp_path: Path) -> None:
    """A umask does not reach the image."""
    assert _stage(tmp_path, "1", 0o600).stat().st_mode & 0o777 == 0o644
    assert _stage(tmp_path, "1", 0o700).stat().st_mode & 0o777 == 0o755


def test_stage_replaces_what_an_interrupted_run_left(tmp_path: Path) -> None:
    """Nothing but the context's files is in the folder."""
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged/left-over").write_text("x")
    _stage(tmp_path, "1")
    assert [path.name for path in (tmp_path / "staged").iterdir()] == ["app"]


def test_missing_package_names_the_file(tmp_path: Path) -> None:
    """A locked package that is not in the channel stops the build with the way to get it."""
    context = Context("channel", {"noarch/x.conda": tmp_path / "x.conda"}, {"noarch/x.conda": "0" * 64})
    with pytest.raises(SlipwayError, match=r"x\.conda") as caught:
        context.stage(tmp_path / "staged")
    assert caught.value.run == "nox -s channel"


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    """An image is never built from nothing by mistake."""
    with pytest.raises(SlipwayError, match="nothing to build"):
        folder_context("app", tmp_path / "none")
