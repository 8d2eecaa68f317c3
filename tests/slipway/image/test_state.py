"""Records of builds survive a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.image.state import Record, read_record

if TYPE_CHECKING:
    from pathlib import Path


def test_record_is_read_back(checkout: Path) -> None:
    """What was saved is found again; the tag comes from the key."""
    record = Record("base", "0123456789abcdef", "sha256:1", 5, {"127.0.0.1:5000": {"digest": "sha256:1"}})
    record.save()
    assert read_record("base") == record
    assert record.tag == "0123456789ab"
    assert [path.name for path in (checkout / ".slipway/images").iterdir()] == ["base.json"]


def test_unreadable_record_means_build_again(checkout: Path) -> None:
    """A file of another version or a broken disk costs a build, nothing more."""
    folder = checkout / ".slipway/images"
    folder.mkdir(parents=True)
    for content in ("", "{", '{"name": "base"}', "[]"):
        (folder / "base.json").write_text(content)
        assert read_record("base") is None
    assert read_record("none") is None
