"""Run rattler's coroutines from ordinary code."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_Result = TypeVar("_Result")
_DEADLINE = 2.0


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what `coroutine` returns, once the threads that delivered it have let go of the interpreter.

    A thread of rattler's own that still holds a thread state when the interpreter ends makes CPython abort
    ("thread state must be current when releasing"). Such threads appear among the frames but not in `threading`.
    """
    try:
        return asyncio.run(coroutine)
    finally:
        deadline = time.monotonic() + _DEADLINE
        while _has_foreign_threads() and time.monotonic() < deadline:
            threading.Event().wait(0.001)


def _has_foreign_threads() -> bool:
    known = {thread.ident for thread in threading.enumerate()}
    return bool(set(sys._current_frames()) - known)  # noqa: SLF001 - documented, the only view of foreign threads
