"""`lock --check`: the repository's own locks, with one thing changed at a time."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from slipway import paths
from slipway.errors import SlipwayError
from slipway.lock.check import check_locks

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the inputs and locks, whose parts a test may change."""
    for name in ("environment.yml", "channel.yml"):
        shutil.copy(paths.ROOT / name, tmp_path)
    shutil.copytree(paths.LOCKS, tmp_path / "locks")
    (tmp_path / "images").mkdir()
    shutil.copy(paths.IMAGES / "hierarchy.yml", tmp_path / "images")
    return tmp_path


def _change(path: Path, old: str, new: str) -> int:
    """Replace the first `old` and return its line."""
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_committed_locks_agree(checkout: Path) -> None:
    """What is in the repository passes, within a second."""
    started = time.monotonic()
    check_locks(checkout)
    assert time.monotonic() - started < 1


def test_comment_does_not_count(checkout: Path) -> None:
    """Only what a file says is compared."""
    _change(checkout / "environment.yml", "dependencies:", "# a remark\ndependencies:")
    check_locks(checkout)


@pytest.mark.parametrize(
    ("file", "old", "new", "word"),
    [
        ("environment.yml", "pytorch=2.13.0", "pytorch=2.12.0", "2.13.0"),
        ("environment.yml", "- numpy=", "- scipy=", "scipy"),
        ("channel.yml", "torch/test/*, ", "", "exclusions"),
    ],
)
def test_line_that_disagrees_is_named(checkout: Path, file: str, old: str, new: str, word: str) -> None:
    """A changed pin, a new package, another exclusion: the message gives the line to look at."""
    line = _change(checkout / file, old, new)
    if file == "channel.yml":
        line = (checkout / file).read_text().split("\n  pytorch:\n    upstream", 1)[0].count("\n") + 2
    with pytest.raises(SlipwayError) as caught:
        check_locks(checkout)
    assert f"{file}:{line}" in caught.value.what
    assert word in str(caught.value)


def test_new_image_package_is_named(checkout: Path) -> None:
    """A Debian package added to an image is not locked."""
    _change(checkout / "images/hierarchy.yml", "- tini ", "- sl\n      - tini ")
    with pytest.raises(SlipwayError, match="sl of image runtime is not locked"):
        check_locks(checkout)


def test_edited_lock_is_noticed(checkout: Path) -> None:
    """The rattler-lock, the @EXPLICIT list and the channel's lock must tell the same checksums."""
    path = checkout / "locks/token-service.lock"
    digest = path.read_text().split("  sha256: ")[1][:64]
    _change(path, digest, "0" * 64)
    with pytest.raises(SlipwayError, match=r"token-service\.lock and the @EXPLICIT list disagree"):
        check_locks(checkout)


def test_missing_lock_is_named(checkout: Path) -> None:
    """A checkout that was never locked says which command locks it."""
    (checkout / "locks/channel.yml").unlink()
    with pytest.raises(SlipwayError, match=r"channel\.yml is missing") as caught:
        check_locks(checkout)
    assert caught.value.run == "nox -s lock"
