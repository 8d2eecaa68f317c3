"""Turn Debian binary packages into the content of one conda package."""

from __future__ import annotations

import re
import subprocess
import tarfile
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from slipway.channel.artefact import Content, Member, Recipe
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MULTIARCH = "x86_64-linux-gnu"
_PLACES = [
    (re.compile(rf"(usr/)?lib/{_MULTIARCH}/(?P<rest>[^/]+\.so[^/]*)"), "lib/"),
    (re.compile(r"usr/lib/(?P<rest>python3\.\d+/.+)"), "lib/"),
    (re.compile(r"usr/bin/(?P<rest>[^/]+)"), "bin/"),
    (re.compile(r"usr/share/(?P<rest>zoneinfo/.+)"), "share/"),
    (re.compile(r"usr/share/(?P<rest>python-wheels/.+)"), "share/"),
]
_COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")


def convert_debs(recipe: Recipe, paths: list[Path]) -> Content:
    """Return the programs, modules, libraries and time zones of Debian packages at their places in an environment.

    Documentation, desktop files and configuration below `/etc` have no place in an environment and are left out.

    Raises:
        SlipwayError: dpkg cannot read a file.
    """
    files: dict[str, Member] = {}
    licences: dict[str, bytes] = {}
    for path in paths:
        for info, data in _read(path):
            name = str(PurePosixPath(info.name))
            if (match := _COPYRIGHT.fullmatch(name)) and info.isfile():
                licences[f"{match[1]}.txt"] = data
                continue
            place = _place(name)
            if place is None or any(fnmatchcase(place, pattern) for pattern in recipe.exclude):
                continue
            link = _link(info, place)
            if link is not None:
                files[place] = Member(place, data, bool(info.mode & 0o111) and not link, link)
    return Content(list(files.values()), licences, summary=f"{recipe.name} from Debian")


def _read(path: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield the files and links of a Debian package with their content."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", process.stdout), mode="r|") as tar:
                for info in tar:
                    if info.isfile():
                        stream = tar.extractfile(info)
                        yield info, stream.read() if stream else b""
                    elif info.issym():
                        yield info, b""
        except tarfile.TarError as error:
            raise SlipwayError(
                f"{path.name} is not a Debian package that dpkg can read",
                seen=str(error),
                rule="a .deb with a data archive",
                run=f"rm {path} and the same command again",
            ) from error


def _place(name: str) -> str | None:
    for pattern, folder in _PLACES:
        if match := pattern.fullmatch(name):
            return folder + match["rest"]
    return None


def _link(info: tarfile.TarInfo, place: str) -> str | None:
    """Return the link's target as seen from `place`, empty for a file, None for a link out of the environment."""
    if not info.issym():
        return ""
    if not info.linkname.startswith("/"):
        return info.linkname
    target = _place(info.linkname.lstrip("/"))
    if target is None:
        return None
    up = len(PurePosixPath(place).parts) - 1
    return "../" * up + target
