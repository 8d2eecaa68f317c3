"""The base image's file system before its packages are configured: their files, merged into one tar."""

from __future__ import annotations

import io
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from slipway.errors import SlipwayError
from slipway.image.contexts import EPOCH

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_MERGED = ("bin", "lib", "lib64", "sbin")
"""Folders that are links into /usr from the start; bookworm's packages still ship files in both."""

_EXCLUDED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/include")
_WORKERS = 2


def write_rootfs(debs: Iterable[Path], target: Path) -> None:
    """Write the files of Debian packages as one tar with fixed times; later packages do not replace earlier files.

    The packages are configured afterwards, inside the image's build (images/base/bootstrap). No program of theirs runs
    on this machine and no privilege is needed.

    Args:
        debs: Package files.
        target: The tar to write.

    Raises:
        SlipwayError: dpkg-deb is missing or cannot read a package.
    """
    seen: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar, ThreadPoolExecutor(_WORKERS) as pool:
        _add(tar, seen, _folder("usr"))
        for name in _MERGED:
            _add(tar, seen, _folder(f"usr/{name}"))
            link = tarfile.TarInfo(f"./{name}")
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, f"usr/{name}", 0o777
            _add(tar, seen, link)
        for content in pool.map(_unpack, debs):
            with tarfile.open(fileobj=io.BytesIO(content)) as source:
                for member in source:
                    _take(tar, seen, source, member)


def _unpack(deb: Path) -> bytes:
    """Return a package's files as a tar, about 10 MB for the largest."""
    try:
        return subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SlipwayError(
            f"the package {deb.name} cannot be unpacked",
            seen=str(getattr(error, "stderr", b"") or error),
            rule="images are built on Debian, whose dpkg-deb reads the locked packages",
            run="nox -s image",
        ) from error


def _take(tar: tarfile.TarFile, seen: set[str], source: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    member.name = _merged(member.name)
    if member.islnk():
        member.linkname = _merged(member.linkname)
    plain = member.name.removeprefix("./")
    if plain in seen or any(plain.startswith(f"{folder}/") for folder in _EXCLUDED):
        return
    _add(tar, seen, member, source.extractfile(member) if member.isreg() else None)


def _merged(name: str) -> str:
    path = name.removeprefix("./").rstrip("/")
    return f"./usr/{path}" if path.split("/")[0] in _MERGED else f"./{path}"


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{name}")
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _add(tar: tarfile.TarFile, seen: set[str], info: tarfile.TarInfo, content: object = None) -> None:
    plain = info.name.removeprefix("./")
    if plain in seen:
        return
    seen.add(plain)
    info.mtime = EPOCH
    info.uname = info.gname = ""
    tar.addfile(info, content)  # type: ignore[arg-type] # typeshed wants the file type that extractfile returns
