"""Turn a wheel into the content of a conda package, after the binary distribution format's installation rules.

Source: packaging.python.org, "Binary distribution format", sections "Installing a wheel" and "The .data directory".
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import zipfile
from email.parser import BytesParser
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slipway.channel.artefact import Content, Member, Recipe
from slipway.channel.conda_file import PLACEHOLDER

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

PYTHON = "3.11"
"""Python series of the channel; paths of linux-64 packages hold it."""

_LAYOUTS = {
    "noarch": {"site": "site-packages", "scripts": "python-scripts"},
    "linux-64": {"site": f"lib/python{PYTHON}/site-packages", "scripts": "bin"},
}
_SCRIPT = """#!{python}
import sys
from {module} import {first}
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit({attribute}())
"""


def read_metadata(path: Path) -> Message:
    """Return the core metadata of a wheel.

    Raises:
        zipfile.BadZipFile: the file is not a wheel.
        KeyError: it holds no METADATA.
    """
    with zipfile.ZipFile(path) as archive:
        name = _dist_info(archive) + "/METADATA"
        return BytesParser().parsebytes(archive.read(name))


def is_pure(path: Path) -> bool:
    """Whether the wheel says that it installs into `purelib` and has no platform tag."""
    with zipfile.ZipFile(path) as archive:
        info = BytesParser().parsebytes(archive.read(_dist_info(archive) + "/WHEEL"))
    return info.get("Root-Is-Purelib") == "true" and path.name.endswith("-none-any.whl")


def licence_of(metadata: Message) -> str:
    """Return the licence a wheel states: its SPDX expression, else its short licence field, else its classifiers."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    text = str(metadata.get("License") or "").strip()
    if text and "\n" not in text and len(text) < 64:  # noqa: PLR2004 - longer ones are the licence's text
        return text
    classifiers = [str(row) for row in metadata.get_all("Classifier", [])]
    names = [row.split(" :: ")[-1] for row in classifiers if row.startswith("License ::")]
    return " AND ".join(names) or "unknown"


def convert_wheel(recipe: Recipe, path: Path) -> Content:
    """Return the files that installing the wheel at `path` puts into an environment.

    Raises:
        zipfile.BadZipFile: the file is damaged.
        ValueError: it holds a path that leaves the environment.
    """
    layout = _LAYOUTS[recipe.subdir]
    files: list[Member] = []
    licences: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        info = _dist_info(archive)
        metadata = BytesParser().parsebytes(archive.read(f"{info}/METADATA"))
        points = _entry_points(archive, info)
        for item in archive.infolist():
            name = item.filename
            if item.is_dir() or name in {f"{info}/RECORD", f"{info}/RECORD.jws", f"{info}/RECORD.p7s"}:
                continue
            if any(fnmatchcase(name, pattern) for pattern in recipe.exclude):
                continue
            data = archive.read(item)
            member = _place(name, data, bool(item.external_attr >> 16 & 0o111), info, layout)
            files.append(member)
            if _is_licence(name, info):
                licences[PurePosixPath(name).name if "/licenses/" not in name else name.split("/licenses/", 1)[1]] = (
                    data
                )
    if recipe.subdir != "noarch":
        files += [_script(name, value) for name, value in sorted(points.items())]
    site = PurePosixPath(layout["site"])
    files.append(Member(str(site / info / "INSTALLER"), b"conda\n"))
    record = _record(files, site, [] if recipe.subdir != "noarch" else sorted(points))
    files.append(Member(str(site / info / "RECORD"), record))
    unique = {member.path: member for member in files}
    return Content(
        files=list(unique.values()),
        licences=licences,
        entry_points=[f"{name} = {value}" for name, value in sorted(points.items())],
        summary=str(metadata.get("Summary") or ""),
        homepage=str(metadata.get("Home-page") or ""),
    )


def _dist_info(archive: zipfile.ZipFile) -> str:
    folders = {name.split("/")[0] for name in archive.namelist()}
    found = sorted(folder for folder in folders if folder.endswith(".dist-info"))
    if len(found) != 1:
        raise KeyError(f"{archive.filename} has {len(found)} .dist-info folders instead of one")
    return found[0]


def _entry_points(archive: zipfile.ZipFile, info: str) -> dict[str, str]:
    try:
        text = archive.read(f"{info}/entry_points.txt").decode()
    except KeyError:
        return {}
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names of scripts are case-sensitive
    parser.read_string(text)
    sections = [section for section in ("console_scripts", "gui_scripts") if parser.has_section(section)]
    return {name: value.split("[")[0].strip() for section in sections for name, value in parser.items(section)}


def _place(name: str, data: bytes, executable: bool, info: str, layout: dict[str, str]) -> Member:  # noqa: FBT001
    """Return the member for one file of the archive, at the place its scheme gives it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} leaves the environment")
    data_folder = info.removesuffix(".dist-info") + ".data"
    if path.parts[0] != data_folder:
        return Member(f"{layout['site']}/{name}", data, executable)
    scheme, rest = path.parts[1], PurePosixPath(*path.parts[2:])
    if scheme in {"purelib", "platlib"}:
        return Member(f"{layout['site']}/{rest}", data, executable)
    if scheme == "headers":
        return Member(f"include/python{PYTHON}/{info.split('-', maxsplit=1)[0]}/{rest}", data)
    if scheme == "scripts":
        if data.startswith((b"#!python", b"#!pythonw")):
            first, _, body = data.partition(b"\n")
            options = first.removeprefix(b"#!pythonw").removeprefix(b"#!python")
            shebang = f"#!{PLACEHOLDER}/bin/python".encode() + options
            return Member(f"{layout['scripts']}/{rest}", shebang + b"\n" + body, executable=True, has_prefix=True)
        return Member(f"{layout['scripts']}/{rest}", data, executable=True)
    return Member(str(rest), data, executable)


def _script(name: str, value: str) -> Member:
    module, _, attribute = value.partition(":")
    text = _SCRIPT.format(
        python=f"{PLACEHOLDER}/bin/python{PYTHON}",
        module=module.strip(),
        first=attribute.strip().split(".")[0],
        attribute=attribute.strip(),
    )
    return Member(f"bin/{name}", text.encode(), executable=True, has_prefix=True)


def _is_licence(name: str, info: str) -> bool:
    if not name.startswith(f"{info}/"):
        return False
    base = PurePosixPath(name).name.upper()
    return "/licenses/" in name or base.startswith(("LICEN", "COPYING", "NOTICE", "AUTHORS"))


def _record(files: list[Member], site: PurePosixPath, scripts: list[str]) -> bytes:
    """Return RECORD for `files`, with paths relative to site-packages as installers write them."""
    up = "../../.."
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for member in sorted(files, key=lambda member: member.path):
        path = PurePosixPath(member.path)
        if path.is_relative_to(site):
            relative = str(path.relative_to(site))
        elif path.parts[0] == "python-scripts":
            relative = f"{up}/bin/{path.name}"
        else:
            relative = f"{up}/{path}"
        if member.has_prefix:
            writer.writerow([relative, "", ""])
        else:
            digest = base64.urlsafe_b64encode(hashlib.sha256(member.data).digest()).rstrip(b"=").decode()
            writer.writerow([relative, f"sha256={digest}", len(member.data)])
    for name in scripts:
        writer.writerow([f"{up}/bin/{name}", "", ""])
    info = next(member.path for member in files if member.path.endswith(".dist-info/INSTALLER"))
    relative = str(PurePosixPath(info).relative_to(site).with_name("RECORD"))
    writer.writerow([relative, "", ""])
    return out.getvalue().encode()
