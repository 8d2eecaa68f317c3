"""One image command at a time: they share the staging folders and the engine's tags."""

from __future__ import annotations

from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import TYPE_CHECKING

from slipway import paths
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other image command runs in this checkout. The kernel lets go of the lock when a process dies."""
    path = paths.STATE / "images" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            flock(handle, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            say("images: waiting for another image command of this checkout")
            flock(handle, LOCK_EX)
        yield
