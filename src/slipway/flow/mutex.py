"""One flow at a time per host and inventory: the second is told who holds the lock."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import getpass
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import SlipwayError
from slipway.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED_DIRECTORY = Path("/run/lock")


def lock_path(inventory: str) -> Path:
    """Return the lock file for an inventory: outside the checkout, so that two clones on one host meet."""
    directory = _SHARED_DIRECTORY if os.access(_SHARED_DIRECTORY, os.W_OK) else Path(tempfile.gettempdir())
    return directory / f"slipway-{inventory}.lock"


def _open(path: Path) -> int:
    """Open the lock file for every user of the host.

    An existing file is opened without O_CREAT: `fs.protected_regular` forbids O_CREAT on another user's file in a
    sticky directory.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.fchmod(handle, 0o666)
        return handle


@contextlib.contextmanager
def exclusive(inventory: str, stage: str) -> Iterator[None]:
    """Hold the lock of `inventory` while the block runs; the kernel releases it when the process dies.

    Raises:
        SlipwayError: another process holds it; the message names process, user, host, stage, start and checkout.
    """
    path = lock_path(inventory)
    handle = _open(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _held_error(inventory, stage, os.pread(handle, 4096, 0)) from None
        holder = {
            "pid": os.getpid(),
            "user": getpass.getuser(),
            "host": socket.gethostname(),
            "stage": stage,
            "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "checkout": str(ROOT),
        }
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _held_error(inventory: str, stage: str, content: bytes) -> SlipwayError:
    """Describe the holder written into the lock file."""
    try:
        holder = json.loads(content)
        seen = (
            f"process {holder['pid']} of {holder['user']} on {holder['host']} has run '{holder['stage']}' "
            f"since {holder['since']} from {holder['checkout']}"
        )
    except (ValueError, KeyError):
        seen = "a process that has not written its name yet"
    return SlipwayError(
        f"Another run holds the lock of inventory '{inventory}'.",
        seen=seen,
        rule="one run at a time per inventory",
        run=f"wait for it to end, then: nox -s {stage}",
    )
