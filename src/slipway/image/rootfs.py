"""The base image's file system: exactly the locked Debian packages, put together offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import SlipwayError
from slipway.image.contexts import EPOCH

if TYPE_CHECKING:
    from slipway.deb.model import Deb

_ROOM = 1 << 30
_HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*")
_LICENCES = "/usr/share/doc/*/copyright"
_LEFTOVERS = (
    *("etc/hostname", "etc/resolv.conf", "etc/machine-id", "etc/apt", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"),
    *("var/lib/apt", "var/cache/apt", "var/cache/debconf/*", "var/cache/ldconfig/*", "var/lib/dpkg/*-old"),
    *("var/log/*", "etc/*-", "etc/.pwd.lock"),
)
"""What tells one building machine or moment from another, or serves only a package manager that is not there."""


def build_rootfs(debs: list[Deb], files: list[Path], target: Path) -> None:
    """Write a tar of a configured Debian system that consists of `debs` alone. Takes about 15 s and no network.

    Args:
        debs: The whole closure; nothing else can be installed.
        files: The packages' files, in the order of `debs`.
        target: The tar to write; appears complete or not at all.

    Raises:
        SlipwayError: mmdebstrap is missing, or a package cannot be installed.
    """
    if shutil.which("mmdebstrap") is None:
        raise SlipwayError(
            "mmdebstrap is not installed", rule="it makes the base image (Debian package)", run="nox -s image"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="slipway-rootfs-", dir=_workspace()) as name:
        archive = Path(name)
        archive.chmod(0o755)
        _index(debs, files, archive)
        partial = target.with_suffix(".partial")
        done = subprocess.run(
            _command(debs, archive, partial),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": name, "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8"},
        )
        if done.returncode != 0:
            partial.unlink(missing_ok=True)
            lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "dpkg:", " "))]
            raise SlipwayError(
                "the base file system could not be made",
                seen="\n".join(lines[:12])[:2000] or done.stderr[-2000:],
                rule="the packages locked for image base form a complete system, made as root or in a user namespace",
                edit="images/hierarchy.yml",
                run="nox -s lock",
            )
        partial.replace(target)


def _workspace() -> str | None:
    """Return a folder in memory when there is room, none for the usual place: dpkg waits for the disk at every file."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder with an unguessable name is made below it
    if not os.access(memory, os.W_OK):
        return None
    room = os.statvfs(memory)
    usable = not room.f_flag & (os.ST_NOEXEC | os.ST_NODEV) and room.f_bavail * room.f_frsize >= _ROOM
    return str(memory) if usable else None


def _index(debs: list[Deb], files: list[Path], archive: Path) -> None:
    """Make a flat Debian archive that holds the packages and nothing else."""
    stanzas: list[str] = []
    for deb, file in zip(debs, files, strict=True):
        shutil.copyfile(file, archive / file.name)
        control = subprocess.run(["dpkg-deb", "--field", str(file)], capture_output=True, text=True, check=True).stdout
        stanzas.append(f"{control.rstrip()}\nFilename: ./{file.name}\nSize: {deb.size}\nSHA256: {deb.sha256}\n")
    (archive / "Packages").write_text("\n".join(stanzas), encoding="utf-8")


def _command(debs: list[Deb], archive: Path, target: Path) -> list[str]:
    paths_kept = [f"path-exclude={pattern}" for pattern in _EXCLUDED] + [f"path-include={_LICENCES}"]
    remove = " ".join(f'"$1"/{pattern}' for pattern in _LEFTOVERS)
    rules = "\\n".join(paths_kept)
    return [
        *("mmdebstrap", "--format=tar", "--variant=essential"),
        f"--architectures={next(deb.arch for deb in debs if deb.arch != 'all')}",
        f"--include={','.join(deb.name for deb in debs)}",
        # The archive has no name from which mmdebstrap could tell that this release merges /bin into /usr/bin.
        f"--hook-dir={_HOOKS}",
        # The locked hashes were verified when the files came into the cache.
        *(f"--dpkgopt={rule}" for rule in ("force-unsafe-io", *paths_kept)),
        '--aptopt=Acquire::Languages "none"',
        # Its own clean-up reads files that the next hook removes.
        "--skip=cleanup/apt,cleanup/mmdebstrap",
        # Children install their packages by the same rules.
        f"--customize-hook=rm -rf {remove}",
        f"--customize-hook=printf '{rules}\\n' > \"$1\"/etc/dpkg/dpkg.cfg.d/slipway",
        *("", str(target), f"deb [trusted=yes] copy://{archive} ./"),
    ]
