"""The lock that keeps two runs apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.errors import SlipwayError
from slipway.flow import mutex

_HOLD = """
import sys, time
from pathlib import Path
from slipway.flow import mutex
mutex.lock_path = lambda inventory: Path(sys.argv[1])
with mutex.exclusive("local", "deploy"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file of the test's own."""
    path = tmp_path / "slipway-local.lock"
    monkeypatch.setattr(mutex, "lock_path", lambda inventory: path)  # noqa: ARG005 - same signature
    return path


def _holder(lock_file: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lock_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(mutex.__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_run_is_told_who_holds_the_lock(lock_file: Path) -> None:
    """The message names process, stage and start of the first run."""
    with _holder(lock_file) as process:
        with pytest.raises(SlipwayError) as caught, mutex.exclusive("local", "destroy"):
            pytest.fail("the lock was given twice")
        process.communicate("")
    assert f"process {process.pid}" in str(caught.value)
    assert "'deploy'" in str(caught.value)


def test_lock_of_a_killed_run_is_free(lock_file: Path) -> None:
    """`kill -9` releases the lock; no file has to be removed by hand."""
    with _holder(lock_file) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with mutex.exclusive("local", "deploy"):
            assert str(os.getpid()) in lock_file.read_text(encoding="utf-8")


def test_lock_is_free_after_the_block(lock_file: Path) -> None:
    """A finished run leaves an empty lock file that the next one takes."""
    with mutex.exclusive("local", "deploy"):
        pass
    assert lock_file.read_text(encoding="utf-8") == ""
    with mutex.exclusive("local", "deploy"):
        pass
