"""Write `.conda` archives: same content, same bytes, same SHA-256, on every machine.

The format is described in the conda documentation ("package specification", `.conda` v2): an uncompressed zip
that holds `metadata.json` and two zstd-compressed tar archives, `pkg-*` with the files and `info-*` with metadata.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from typing import IO, TYPE_CHECKING, Any, cast

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from slipway.channel.artefact import Content, Member, Recipe

PLACEHOLDER = "/opt/slipway_prefix_placeholder"
"""Stands in text files where the environment's path belongs; the installer replaces it."""

_LEVEL = 3
_EPOCH = (1980, 1, 1, 0, 0, 0)
_OLDEST = 946684800
_SPAN = 20 * 365 * 86400


def write_conda(recipe: Recipe, content: Content, target: Path) -> None:
    """Write the package of `recipe` with `content` to `target`, which must be on a scratch path of the caller's.

    Raises:
        OSError: the disk is full or not writable.
        ValueError: two members have the same path.
    """
    members = sorted(content.files, key=lambda member: member.path)
    names = [member.path for member in members]
    if len(set(names)) != len(names):
        raise ValueError(f"{recipe.file}: two files have the same path")
    stem = recipe.file.removesuffix(".conda")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_zip_info("metadata.json"), json.dumps({"conda_pkg_format_version": 2}))
        _add_tar(archive, f"pkg-{stem}.tar.zst", members)
        _add_tar(archive, f"info-{stem}.tar.zst", _info_members(recipe, content, members))


def _zip_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def _add_tar(archive: zipfile.ZipFile, name: str, members: Iterable[Member]) -> None:
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    with (
        # No force_zip64: Python 3.11.4 changed the header it writes, and Debian 12 has 3.11.2. Two GiB is the limit.
        archive.open(_zip_info(name), "w") as raw,
        compressor.stream_writer(raw, closefd=False) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for member in members:
            tar.addfile(_tar_info(member), io.BytesIO(member.data))


def _tar_info(member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo(member.path)
    info.mode = 0o755 if member.executable else 0o644
    # Python takes a `.pyc` for current when its source has the recorded size and time. A constant time would let the
    # old `.pyc` of an updated module stand; a time taken from the content changes exactly when the content does.
    digest = hashlib.sha256(member.data).digest()
    info.mtime = _OLDEST + int.from_bytes(digest[:4], "big") % _SPAN
    if member.link:
        info.type = tarfile.SYMTYPE
        info.linkname = member.link
    else:
        info.size = len(member.data)
    return info


def _info_members(recipe: Recipe, content: Content, members: list[Member]) -> list[Member]:
    from slipway.channel.artefact import Member  # noqa: PLC0415 - artefact is only typed above

    is_noarch = recipe.subdir == "noarch"
    index: dict[str, Any] = {
        "arch": None if is_noarch else "x86_64",
        "build": recipe.build,
        "build_number": 0,
        "depends": list(recipe.depends),
        "license": recipe.licence,
        "name": recipe.name,
        **({"noarch": "python"} if is_noarch and recipe.kind == "wheel" else {}),
        **({"noarch": "generic"} if is_noarch and recipe.kind != "wheel" else {}),
        "platform": None if is_noarch else "linux",
        "subdir": recipe.subdir,
        "version": recipe.version,
    }
    about = {
        "home": content.homepage,
        "license": recipe.licence,
        "summary": content.summary,
        "extra": {"upstream": [upstream.to_dict() for upstream in recipe.upstream]},
    }
    rows: dict[str, Any] = {
        "info/about.json": about,
        "info/index.json": index,
        "info/paths.json": {"paths": [_path_row(member) for member in members], "paths_version": 1},
    }
    if is_noarch and recipe.kind == "wheel":
        points = {"type": "python", "entry_points": content.entry_points}
        rows["info/link.json"] = {"noarch": points, "package_metadata_version": 1}
    files = [Member(name, json.dumps(row, indent=1, sort_keys=True).encode()) for name, row in rows.items()]
    files += [Member(f"info/licenses/{name}", data) for name, data in content.licences.items()]
    return sorted(files, key=lambda member: member.path)


def _path_row(member: Member) -> dict[str, Any]:
    row: dict[str, Any] = {"_path": member.path, "path_type": "softlink" if member.link else "hardlink"}
    if not member.link:
        row["sha256"] = hashlib.sha256(member.data).hexdigest()
        row["size_in_bytes"] = len(member.data)
    if member.has_prefix:
        row["file_mode"] = "text"
        row["prefix_placeholder"] = PLACEHOLDER
    return row
