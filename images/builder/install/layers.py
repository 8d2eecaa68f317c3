"""Divide an installed environment into layers by how often its packages change."""

# ruff: noqa: INP001 - copied into the builder image as scripts
from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

NAMES = ("interpreter", "heavy", "rest")
_HEAVY = 20 * 1024 * 1024
"""Bytes from which a package goes into the layer `heavy`, which updates of small packages leave alone."""


def split(prefix: Path, target: Path) -> dict[str, int]:
    """Hard-link every file of `prefix` into `target/LAYER`, at its full path.

    The interpreter's layer holds Python and what it needs; packages of 20 MiB and more are heavy; everything else,
    bytecode beside its source, goes where its package goes.

    Returns:
        Bytes per layer.
    """
    owners = _owners(prefix)
    sizes = dict.fromkeys(NAMES, 0)
    for folder, _, files in os.walk(prefix):
        for name in files:
            path = Path(folder) / name
            layer = owners.get(_source(path.relative_to(prefix)), "rest")
            place = target / layer / path.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place, follow_symlinks=False)
            sizes[layer] += path.lstat().st_size
    return sizes


def _owners(prefix: Path) -> dict[str, str]:
    """Return file -> layer for every file that a package owns."""
    rows = {row["name"]: row for row in (json.loads(path.read_text()) for path in prefix.glob("conda-meta/*.json"))}
    interpreter = _closure(rows, "python")
    owners: dict[str, str] = {}
    for name, row in rows.items():
        size = sum((prefix / file).lstat().st_size for file in row["files"] if os.path.lexists(prefix / file))
        layer = "interpreter" if name in interpreter else "heavy" if size >= _HEAVY else "rest"
        meta = f"conda-meta/{row['name']}-{row['version']}-{row['build']}.json"
        owners.update(dict.fromkeys([*row["files"], meta], layer))
    return owners


def _closure(rows: dict[str, dict[str, list[str]]], root: str) -> set[str]:
    found: set[str] = set()
    queue = [root]
    while queue:
        name = queue.pop()
        if name in rows and name not in found:
            found.add(name)
            queue += [spec.split()[0] for spec in rows[name]["depends"]]
    return found


def _source(path: Path) -> str:
    """Return the file whose package decides: the source for bytecode, the file itself otherwise."""
    if path.suffix == ".pyc" and path.parent.name == "__pycache__":
        return str(PurePosixPath(path.parent.parent) / f"{path.name.split('.')[0]}.py")
    return str(path)
