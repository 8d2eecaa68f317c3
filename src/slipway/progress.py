"""Progress of long work, shown at once even when Ansible holds back a task's output.

`nox -s deploy` gives every stage a file in `SLIPWAY_PROGRESS` and prints what is appended to it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def say(text: str) -> None:
    """Print one line of progress to standard error, or to the file `SLIPWAY_PROGRESS` names."""
    target = os.environ.get("SLIPWAY_PROGRESS")
    if target:
        with Path(target).open("a", encoding="utf-8") as stream:
            stream.write(text.rstrip("\n") + "\n")
    else:
        sys.stderr.write(text.rstrip("\n") + "\n")
