"""Runs one playbook or one command of a stage: live output, a log file, totals of what changed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import SlipwayError
from slipway.paths import LOGS, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_SECONDS = 0.2


@dataclass
class Totals:
    """What a stage changed: number of changed tasks or artefacts, and their names."""

    changed: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, other: Totals) -> None:
        """Add another step's totals to this one."""
        self.changed += other.changed
        self.names += other.names


class _Tail(threading.Thread):
    """Prints what is appended to a progress file until stopped."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._stop_event = threading.Event()

    def run(self) -> None:
        with self._path.open(encoding="utf-8", errors="replace") as stream:
            while True:
                ending = self._stop_event.is_set()
                for line in stream:
                    sys.stderr.write(f"    {line}")
                if ending:
                    return
                self._stop_event.wait(_POLL_SECONDS)

    def stop(self) -> None:
        """Print the rest and end."""
        self._stop_event.set()
        self.join()


def die_with_parent(command: list[str]) -> list[str]:
    """Prefix a command so that the kernel ends it when this process is killed."""
    return ["setpriv", "--pdeathsig", "TERM", "--", *command]


def environment() -> dict[str, str]:
    """Return the environment of child processes: this Python's tools first, Slipway importable."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "PYTHONPATH": str(ROOT / "src"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(ROOT / ".slipway" / "ansible"),
    }


@contextlib.contextmanager
def _progress_file(scratch: Path) -> Iterator[Path]:
    """Give a file to append progress to; its lines are printed as they come."""
    path = scratch / "progress"
    path.touch()
    tail = _Tail(path)
    tail.start()
    try:
        yield path
    finally:
        tail.stop()


def run_playbook(name: str, inventory: str, arguments: list[str]) -> Totals:
    """Run `playbooks/NAME.yml`, showing progress as it comes; the full log goes to `.slipway/logs/NAME.log`.

    Raises:
        SlipwayError: the playbook failed; its own message has been printed above.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    log.unlink(missing_ok=True)
    command = ["ansible-playbook", "-i", f"inventories/{inventory}", f"playbooks/{name}.yml", *arguments]
    with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
        stats = Path(scratch, "stats.json")
        with _progress_file(Path(scratch)) as progress:
            env = environment() | {
                "SLIPWAY_PROGRESS": str(progress),
                "SLIPWAY_STATS": str(stats),
                "ANSIBLE_LOG_PATH": str(log),
            }
            status = subprocess.run(die_with_parent(command), cwd=ROOT, env=env, check=False).returncode
        if status != 0:
            raise SlipwayError(
                f"Stage {name} failed; the task that failed says why, above.",
                seen=f"ansible-playbook ended with status {status}",
                run=f"mend what the message names, then the same command again; full log: {log.relative_to(ROOT)}",
                exit_code=2,
            )
        summary = json.loads(stats.read_text(encoding="utf-8"))
    return Totals(changed=summary["changed"], names=summary["changed_tasks"])


def run_command(arguments: list[str], label: str, *, quiet: bool = False) -> Totals:
    """Run `python -m slipway ARGUMENTS --json`.

    Args:
        arguments: Words of the command.
        label: Stage, for messages.
        quiet: Print progress as plain lines, because something else uses the terminal at the same time.

    Raises:
        SlipwayError: the command failed; its own message has been printed above.
    """
    command = die_with_parent([sys.executable, "-m", "slipway", *arguments, "--json"])
    env = environment()
    with contextlib.ExitStack() as stack:
        if quiet:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-"))
            env["SLIPWAY_PROGRESS"] = str(stack.enter_context(_progress_file(Path(scratch))))
        done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SlipwayError(
            f"Stage {label} failed; the message above says why.",
            seen=f"slipway {' '.join(arguments)} ended with status {done.returncode}",
            run="mend what the message names, then the same command again",
            exit_code=2,
        )
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    names = [f"{label}: {name}" for name in answer.get("changed_names", [label])] if answer["changed"] else []
    return Totals(changed=len(names), names=names)
