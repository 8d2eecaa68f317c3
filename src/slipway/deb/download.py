"""Download locked Debian packages with apt's own fetcher, so that its proxies and transports apply."""

from __future__ import annotations

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from slipway.deb.model import Deb, LockDrift
from slipway.errors import SlipwayError
from slipway.files import sha256_file

if TYPE_CHECKING:
    from slipway.deb.mirrors import Mirrors

_HELPER = "/usr/lib/apt/apt-helper"
_BATCH = 24
_WORKERS = 4


def download(debs: list[Deb], targets: dict[Deb, Path], mirrors: Mirrors, environment: dict[str, str]) -> None:
    """Download `debs` to `targets`; a file appears there complete and verified or not at all.

    Raises:
        LockDrift: the mirror answers that it does not hold a version.
        SlipwayError: the mirror does not answer, breaks off, or serves content with another SHA-256.
    """
    folder = next(iter(targets.values())).parent.parent
    folder.mkdir(parents=True, exist_ok=True)
    batches = [debs[start : start + _BATCH] for start in range(0, len(debs), _BATCH)]
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as name:
        partial = Path(name)
        with ThreadPoolExecutor(_WORKERS) as pool:
            said = list(pool.map(lambda batch: _run_helper(batch, partial, mirrors, environment), batches))
        vanished: list[str] = []
        broken: list[str] = []
        for deb in debs:
            file = partial / deb.file
            if not file.is_file():
                gone = _is_missing(deb, "\n".join(said))
                (vanished if gone else broken).append(f"{deb.name} {deb.version}")
                continue
            seen = sha256_file(file)
            if seen != deb.sha256:
                broken.append(f"{deb.name} {deb.version} (sha256 {seen}, locked {deb.sha256})")
                continue
            targets[deb].parent.mkdir(parents=True, exist_ok=True)
            file.replace(targets[deb])
    if vanished:
        raise LockDrift(
            "locked Debian packages are no longer on the mirror",
            seen=", ".join(vanished),
            rule="a locked version must be on the mirror or in .slipway/cache/debs",
            run="nox -s lock (relocks what vanished; or set slipway_lock_drift: relock)",
            vanished=vanished,
        )
    if broken:
        lines = [line for text in said for line in text.splitlines() if line.startswith(("E:", "Err", " "))]
        raise SlipwayError(
            "Debian packages could not be downloaded",
            seen="; ".join(broken + list(dict.fromkeys(lines)))[:2000],
            rule=f"{mirrors.main} must serve the locked content",
            edit="apt's sources, if this mirror is the wrong one",
            run="the same command again; finished downloads are kept",
        )


def _run_helper(batch: list[Deb], folder: Path, mirrors: Mirrors, environment: dict[str, str]) -> str:
    """Fetch one batch into `folder` and return what apt said about it."""
    words: list[str] = []
    for deb in batch:
        words += [
            mirrors.base(deb.archive) + quote(deb.filename, safe="/~:"),
            str(folder / deb.file),
            f"SHA256:{deb.sha256}",
        ]
    done = subprocess.run(
        [_HELPER, "download-file", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "TMPDIR": os.fspath(folder)},
        check=False,
    )
    return done.stdout


def _is_missing(deb: Deb, said: str) -> bool:
    """Whether apt's output says that the mirror answered "not found" for this file."""
    address = quote(deb.filename, safe="/~:").lower()
    lines = [line.lower() for line in said.splitlines() if address in line.lower()]
    return any(" 404 " in line or "file not found" in line for line in lines)
