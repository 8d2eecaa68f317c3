"""images/hierarchy.yml: which image builds on which, and what goes into each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from slipway import paths
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path

FILE = paths.IMAGES / "hierarchy.yml"
KINDS = ("rootfs", "runtime", "build", "service", "platform")
_FIELDS = ("parent", "kind", "debs", "environment", "application")
BUILDER = "builder"
"""The image that installs environments; a build-time parent of every image that has one."""


@dataclass(frozen=True)
class Image:
    """One image of the hierarchy.

    Attributes:
        name: Its folder below images/.
        kind: One of `KINDS`.
        parent: The image it starts from; none for the root.
        debs: Debian packages named for it, without their closure.
        environment: Name of the conda environment installed into it, empty when it has none.
        application: Package below src/ that is its last layer, empty when it has none.
    """

    name: str
    kind: str
    parent: str | None = None
    debs: tuple[str, ...] = ()
    environment: str = ""
    application: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Images that must exist before this one is built."""
        parent = (self.parent,) if self.parent else ()
        return (*parent, BUILDER) if self.environment else parent

    @property
    def pushed(self) -> bool:
        """Whether the image goes to the registry."""
        return self.kind != "build"


class Hierarchy:
    """All images, parents before children.

    Args:
        images: In any order; `load` checks them.
    """

    def __init__(self, images: dict[str, Image]) -> None:
        self._images = images

    def __getitem__(self, name: str) -> Image:
        return self._images[name]

    def __contains__(self, name: str) -> bool:
        return name in self._images

    @property
    def names(self) -> list[str]:
        """All names in build order."""
        return self.select([])

    def ancestors(self, name: str) -> list[str]:
        """Return the chain of parents of an image, nearest first."""
        chain: list[str] = []
        parent = self._images[name].parent
        while parent is not None:
            chain.append(parent)
            parent = self._images[parent].parent
        return chain

    def select(self, only: list[str]) -> list[str]:
        """Return `only` and everything these need, in build order; all images when `only` is empty.

        Raises:
            SlipwayError: a name is not in the hierarchy.
        """
        for name in only:
            if name not in self._images:
                raise SlipwayError(
                    f"there is no image {name!r}", seen=name, rule=f"one of {', '.join(self._images)}", edit=str(FILE)
                )
        ordered: list[str] = []

        def visit(name: str) -> None:
            if name not in ordered:
                for need in self._images[name].needs:
                    visit(need)
                ordered.append(name)

        for name in only or self._images:
            visit(name)
        return ordered


def load(path: Path = FILE) -> Hierarchy:
    """Read and check the hierarchy.

    Raises:
        SlipwayError: the file is missing or malformed; the message names the line.
    """
    try:
        content = YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SlipwayError("the image hierarchy is missing", seen=str(path), rule="a YAML file") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise _error(path, mark.line if mark else 0, str(error.problem), "YAML as the file's comment tells") from error
    rows = content.get("images") if isinstance(content, CommentedMap) else None
    if not isinstance(rows, CommentedMap) or not rows:
        raise _error(path, 0, f"top level holds {type(content).__name__}", "a mapping `images:` of at least one image")
    images = {name: _image(path, rows, name) for name in rows}
    _check_parents(path, rows, images)
    return Hierarchy(images)


def _image(path: Path, rows: CommentedMap, name: str) -> Image:
    row = rows[name]
    line = rows.lc.key(name)[0]
    if not isinstance(row, CommentedMap):
        raise _error(path, line, f"{name}: {row!r}", "a mapping with at least `kind:`")
    for field in row:
        if field not in _FIELDS:
            raise _error(path, row.lc.key(field)[0], f"{name}: {field}", f"one of {', '.join(_FIELDS)}")
    kind = row.get("kind")
    if kind not in KINDS:
        place = row.lc.key("kind")[0] if "kind" in row else line
        raise _error(path, place, f"{name}: kind: {kind}", f"one of {', '.join(KINDS)}")
    debs = row.get("debs", [])
    if not isinstance(debs, list) or not all(isinstance(deb, str) for deb in debs):
        raise _error(path, row.lc.key("debs")[0], f"debs: {debs!r}", "a list of Debian package names")
    texts: dict[str, Any] = {field: row.get(field) or "" for field in ("environment", "application")}
    for field, value in texts.items():
        if not isinstance(value, str):
            raise _error(path, row.lc.key(field)[0], f"{field}: {value!r}", "a name")
    return Image(name=name, kind=kind, parent=row.get("parent"), debs=tuple(debs), **texts)


def _check_parents(path: Path, rows: CommentedMap, images: dict[str, Image]) -> None:
    for name, image in images.items():
        line = rows[name].lc.key("parent")[0] if "parent" in rows[name] else rows.lc.key(name)[0]
        if (image.parent is None) != (image.kind == "rootfs"):
            raise _error(path, line, f"{name}: kind {image.kind}, parent {image.parent}", "only a rootfs has no parent")
        seen = [name]
        for need in image.needs:
            if need not in images:
                raise _error(path, line, f"{name} needs {need}", f"one of {', '.join(images)}")
        while (parent := images[seen[-1]].parent) is not None:
            if parent not in images:
                break
            if parent in seen:
                raise _error(path, line, " -> ".join([*seen, parent]), "no image may be its own ancestor")
            seen.append(parent)


def _error(path: Path, line: int, seen: str, rule: str) -> SlipwayError:
    """Build the error for a line, counted from 0."""
    return SlipwayError("the image hierarchy is malformed", seen=seen, rule=rule, edit=f"{path}:{line + 1}")
