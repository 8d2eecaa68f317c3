"""Key files: hashed, read again when they change, never more open than before by mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from token_service import keys
from token_service.errors import StartError
from token_service.keys import KeyFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with two keys."""
    path = tmp_path / "keys"
    path.write_text(f"# ours\n\n{keys.line('old', 'old-key')} until June\n{keys.line('new', 'new-key')}\n")
    return path


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the file every time."""
    monkeypatch.setattr(keys, "_CHECK_SECONDS", 0)


def test_key_is_found_by_its_name(file: Path) -> None:
    """Each key gives its name, anything else nothing."""
    found = KeyFile(file)
    assert [found.find(key) for key in (b"old-key", b"new-key", b"", b"old", b"\xff")] == [
        "old",
        "new",
        None,
        None,
        None,
    ]


@pytest.mark.usefixtures("eager")
def test_change_counts_without_a_restart(file: Path) -> None:
    """A revoked key is refused, a new one accepted, whether the file is replaced or written in place."""
    found = KeyFile(file)
    other = file.with_name("other")
    other.write_text(keys.line("next", "next-key"))
    other.replace(file)
    assert [found.find(key) for key in (b"old-key", b"next-key")] == [None, "next"]
    file.write_text(f"{keys.line('third', 'third-key')}\n")
    assert [found.find(key) for key in (b"next-key", b"third-key")] == [None, "third"]
    file.write_text("# nobody\n")
    assert found.find(b"third-key") is None


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("broken", ["nonsense", "old sha256:12", None])
def test_broken_file_keeps_the_last_good_one(file: Path, broken: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """A typing mistake locks nobody out; the log says so without what stands in the file."""
    found = KeyFile(file)
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    assert found.find(b"old-key") == "old"
    assert "last good version" in caplog.text
    assert "nonsense" not in caplog.text


def test_file_is_looked_at_once_a_second(file: Path) -> None:
    """Requests do not wait for the disk each time."""
    found = KeyFile(file)
    file.write_text(keys.line("next", "next-key"))
    assert found.find(b"old-key") == "old"


@pytest.mark.parametrize("text", ["", "# none\n", "key", "a sha256:00", f"a sha256:{'0' * 64}\na sha256:{'1' * 64}"])
def test_start_needs_a_usable_file(tmp_path: Path, text: str) -> None:
    """At start a file without a key, a malformed line or a double name is refused with the command that mends it."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(StartError, match=r"token_service\.keys new"):
        KeyFile(path)


def _run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-m", "token_service.keys", *arguments]  # -S: without installed packages
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=os.environ, check=False)


def test_new_key_matches_its_line(tmp_path: Path) -> None:
    """The command needs the standard library only; its two lines are a key and what the file stores of it."""
    key, row = _run("new", "alice").stdout.splitlines()
    assert key.startswith(keys.PREFIX)
    assert key not in row
    path = tmp_path / "keys"
    path.write_text(row)
    assert KeyFile(path).find(key.encode()) == "alice"
    assert _run("hash", "alice", stdin=f"{key}\n").stdout.strip() == row


def test_unusable_name_is_refused() -> None:
    """A name with a space would break the file."""
    done = _run("new", "two words")
    assert (done.returncode, done.stdout) == (1, "")
    assert "two words" in done.stderr
