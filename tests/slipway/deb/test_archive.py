"""The private apt root, against a real repository of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.deb import LockDrift, Mirrors
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.slipway.conftest import Repository


def test_closure_is_resolved_over_both_archives(repository: Repository, tmp_path: Path) -> None:
    """The newer version of the security archive is taken, with what it depends on."""
    repository.add("libone", "1.0-1")
    repository.add("libone", "1.0-1+deb1", depends="libtwo", archive="debian-security")
    repository.add("libtwo", "2:2.0-1")
    debs = repository.archive(tmp_path).resolve(["libone"])
    assert [(deb.name, deb.version, deb.archive) for deb in debs] == [
        ("libone", "1.0-1+deb1", "security"),
        ("libtwo", "2:2.0-1", "main"),
    ]
    assert debs[0].filename == "pool/libone_1.0-1+deb1_amd64.deb"
    assert len(debs[0].sha256) == 64


def test_installed_packages_are_not_resolved_again(repository: Repository, tmp_path: Path) -> None:
    """A child image adds only what its parents lack."""
    repository.add("server", depends="libone")
    repository.add("libone")
    debs = repository.archive(tmp_path).resolve(["server"], {"libone": "1.0-1"})
    assert [deb.name for deb in debs] == ["server"]


def test_pinned_version_is_kept_while_the_archive_has_it(repository: Repository, tmp_path: Path) -> None:
    """A lock moves only when its version has vanished."""
    repository.add("libone", "1.0-1")
    repository.add("libone", "1.1-1")
    archive = repository.archive(tmp_path)
    assert archive.resolve(["libone"], pins={"libone": "1.0-1"})[0].version == "1.0-1"
    assert archive.resolve(["libone"], pins={"libone": "0.9-1"})[0].version == "1.1-1"


def test_fetched_file_is_the_archives_and_is_kept(repository: Repository, tmp_path: Path) -> None:
    """A file comes from the mirror once; then the cache serves it, mirror or no mirror."""
    source = repository.add("libone")
    archive = repository.archive(tmp_path)
    debs = archive.resolve(["libone"])
    (path,) = archive.fetch(debs)
    assert path.read_bytes() == source.read_bytes()
    source.unlink()
    assert archive.fetch(debs) == [path]


def test_unknown_package_is_named(repository: Repository, tmp_path: Path) -> None:
    """Apt's own words about a package that no archive provides reach the user."""
    with pytest.raises(SlipwayError, match="stable") as caught:
        repository.archive(tmp_path).resolve(["no-such-package"])
    assert "no-such-package" in caught.value.seen


def test_vanished_version_is_drift(repository: Repository, tmp_path: Path) -> None:
    """A version that was superseded on the mirror is reported as drift, by name and version."""
    source = repository.add("libone")
    archive = repository.archive(tmp_path)
    debs = archive.resolve(["libone"])
    source.unlink()
    with pytest.raises(LockDrift) as caught:
        archive.fetch(debs)
    assert caught.value.vanished == ["libone 1.0-1"]


def test_other_content_is_refused(repository: Repository, tmp_path: Path) -> None:
    """A file with another SHA-256 than locked is an error, not drift, and nothing is left in the cache."""
    source = repository.add("libone")
    archive = repository.archive(tmp_path)
    debs = archive.resolve(["libone"])
    source.write_bytes(b"x" * source.stat().st_size)
    with pytest.raises(SlipwayError) as caught:
        archive.fetch(debs)
    assert not isinstance(caught.value, LockDrift)
    assert debs[0].sha256 in caught.value.seen
    assert list((tmp_path / "debs").iterdir()) == []


def test_download_that_breaks_off_leaves_nothing(repository: Repository, tmp_path: Path) -> None:
    """Half a file is neither kept nor taken for whole; the next run gets it."""
    repository.add("libone", text="x" * 200_000)
    archive = repository.archive(tmp_path)
    debs = archive.resolve(["libone"])
    repository.truncate.add(".deb")
    with pytest.raises(SlipwayError) as caught:
        archive.fetch(debs)
    assert not isinstance(caught.value, LockDrift)
    assert list((tmp_path / "debs").iterdir()) == []
    repository.truncate.clear()
    assert archive.fetch(debs)[0].is_file()


def test_mirror_that_does_not_answer_is_named(repository: Repository, tmp_path: Path) -> None:
    """Nobody listens: the message names the mirror and apt's sources."""
    archive = repository.archive(tmp_path)
    archive._found = Mirrors("http://127.0.0.1:9/debian/", "http://127.0.0.1:9/debian-security/")  # noqa: SLF001 - a dead mirror
    with pytest.raises(SlipwayError) as caught:
        archive.update()
    assert "127.0.0.1:9" in caught.value.rule
    assert "apt" in caught.value.edit
