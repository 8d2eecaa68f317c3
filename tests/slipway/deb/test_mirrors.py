"""Choosing mirrors from what apt says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.deb.mirrors import Mirrors, find_mirrors, select_mirrors
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path


def test_archives_are_told_apart() -> None:
    """Main and security archive come from their own lines; another vendor's archive is not taken."""
    targets = "http://vendor.example/debian/|bookworm|stable|Vendor\nhttp://a.example/debian/|trixie|main|Debian\nhttp://b.example/debian/|bookworm|main|Debian\nhttp://s.example/debian-security/|bookworm-security|main|Debian"
    assert select_mirrors(targets, "bookworm") == Mirrors(
        "http://b.example/debian/", "http://s.example/debian-security/"
    )


def test_other_suite_serves_when_own_is_missing() -> None:
    """A Debian 13 host's mirror is used for bookworm, and its security archive is found by convention."""
    mirrors = select_mirrors("http://a.example/debian|trixie|main|$(ORIGIN)", "bookworm")
    assert mirrors == Mirrors("http://a.example/debian/", "http://a.example/debian-security/")


def test_machine_without_debian_archive_is_refused() -> None:
    """The message shows what apt has and which file to edit."""
    with pytest.raises(SlipwayError) as caught:
        select_mirrors("http://x.example/ubuntu/|noble|main|Ubuntu", "bookworm")
    assert "ubuntu" in caught.value.seen
    assert caught.value.edit.startswith("/etc/apt")


def test_mirror_is_found_before_the_first_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare machine has sources but no package index yet."""
    sources = tmp_path / "sources.list"
    sources.write_text("deb http://mirror.example/debian trixie main\n")
    configuration = tmp_path / "apt.conf"
    configuration.write_text(
        f'Dir::Etc::sourcelist "{sources}";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{tmp_path}/lists";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(configuration))
    assert find_mirrors("bookworm").main == "http://mirror.example/debian/"
