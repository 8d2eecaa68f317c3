"""What the channel lock says about one conda package: what it is, and which upstream files it is made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from slipway.deb import Deb

FORMAT = 1
"""Number of the conversion's rules. Raised when the same upstream files would give other bytes."""


@dataclass(frozen=True)
class Wheel:
    """One wheel of the Python index.

    Attributes:
        name: Normalised distribution name, for example `torch`.
        version: Full version with its local part, for example `2.13.0+cpu`.
        file: File name.
        sha256: Hexadecimal SHA-256 of the file.
        size: Bytes.
    """

    name: str
    version: str
    file: str
    sha256: str
    size: int

    def to_dict(self) -> dict[str, str | int]:
        """Return the fields as they stand in a lock, in a fixed order."""
        return {
            "name": self.name,
            "version": self.version,
            "file": self.file,
            "sha256": self.sha256,
            "size": self.size,
        }


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the bytes of a `.conda` besides the upstream files' content.

    Attributes:
        name: conda-forge's name.
        version: conda version.
        subdir: `noarch` or `linux-64`.
        kind: Upstream kind: `wheel` or `deb`.
        licence: SPDX expression, or what upstream states.
        depends: conda match specifications, sorted.
        wheel: The upstream wheel; None for other kinds.
        debs: The upstream Debian packages; the first gives the version.
        exclude: Globs over installed paths that are left out.
        convert: Name of a special conversion: empty or `cpython`.
        build_prefix: Readable part of the build string, for example `py311`.
    """

    name: str
    version: str
    subdir: str
    kind: str
    licence: str
    depends: tuple[str, ...]
    wheel: Wheel | None = None
    debs: tuple[Deb, ...] = ()
    exclude: tuple[str, ...] = ()
    convert: str = ""
    build_prefix: str = ""

    @property
    def build(self) -> str:
        """Build string: a prefix and seven digits of the digest over all that decides the content."""
        decides = json.dumps(
            [FORMAT, self.name, self.version, self.subdir, self.licence, self.depends, self.exclude, self.convert]
            + [upstream.sha256 for upstream in self.upstream],
        )
        return f"{self.build_prefix}h{hashlib.sha256(decides.encode()).hexdigest()[:7]}_0"

    @property
    def file(self) -> str:
        """File name of the package."""
        return f"{self.name}-{self.version}-{self.build}.conda"

    @property
    def upstream(self) -> tuple[Wheel | Deb, ...]:
        """The upstream files, whatever their kind."""
        return (self.wheel,) if self.wheel else self.debs


@dataclass(frozen=True)
class Artefact:
    """A recipe together with the checksum of the package it gives.

    Attributes:
        recipe: What is converted.
        sha256: Hexadecimal SHA-256 of the `.conda`.
        size: Bytes of the `.conda`.
    """

    recipe: Recipe
    sha256: str
    size: int

    @property
    def path(self) -> str:
        """Path below the channel."""
        return f"{self.recipe.subdir}/{self.recipe.file}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they stand in `locks/channel.yml`."""
        recipe = self.recipe
        return {
            "name": recipe.name,
            "version": recipe.version,
            "build": recipe.build,
            "subdir": recipe.subdir,
            "file": recipe.file,
            "sha256": self.sha256,
            "size": self.size,
            "licence": recipe.licence,
            "depends": list(recipe.depends),
            "upstream": {
                "kind": recipe.kind,
                **({"convert": recipe.convert} if recipe.convert else {}),
                **({"exclude": list(recipe.exclude)} if recipe.exclude else {}),
                "files": [upstream.to_dict() for upstream in recipe.upstream],
            },
        }

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Artefact:
        """Read `to_dict`'s form.

        Raises:
            KeyError: a field is missing.
        """
        upstream = row["upstream"]
        is_wheel = upstream["kind"] == "wheel"
        recipe = Recipe(
            name=row["name"],
            version=row["version"],
            subdir=row["subdir"],
            kind=upstream["kind"],
            licence=row["licence"],
            depends=tuple(row["depends"]),
            wheel=Wheel(**upstream["files"][0]) if is_wheel else None,
            debs=() if is_wheel else tuple(Deb.from_dict(file) for file in upstream["files"]),
            exclude=tuple(upstream.get("exclude", ())),
            convert=upstream.get("convert", ""),
            build_prefix=row["build"].rpartition("h")[0],
        )
        return cls(recipe, row["sha256"], row["size"])


@dataclass(frozen=True)
class Content:
    """The files of a package before they are archived.

    Attributes:
        files: The members; their paths are unique.
        licences: Licence texts: file name -> bytes.
        entry_points: Lines `name = module:function` that the installer of a noarch package turns into scripts.
        summary: One line for `about.json`.
        homepage: Address for `about.json`.
    """

    files: list[Member]
    licences: dict[str, bytes]
    entry_points: list[str] = field(default_factory=list)
    summary: str = ""
    homepage: str = ""


@dataclass(frozen=True)
class Member:
    """One installed file.

    Attributes:
        path: Path below the prefix.
        data: Content; for a link the empty string.
        executable: Whether it gets mode 0755 instead of 0644.
        link: Target of a symbolic link; empty for a file.
        has_prefix: Whether `data` holds the prefix placeholder, to be replaced at installation.
    """

    path: str
    data: bytes
    executable: bool = False
    link: str = ""
    has_prefix: bool = False
