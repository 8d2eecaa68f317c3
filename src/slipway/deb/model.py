"""What a locked Debian package is, and the error for one that its mirror no longer holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote

from slipway.errors import SlipwayError


@dataclass(frozen=True, order=True)
class Deb:
    """One binary package of a Debian archive.

    Attributes:
        name: Binary package name, for example `libssl3`.
        version: Full Debian version with epoch.
        arch: `amd64` or `all`.
        archive: Which archive holds it: `main` or `security`. The mirror's address is never part of it.
        filename: Path below the archive's root, for example `pool/main/o/openssl/libssl3_..._amd64.deb`.
        sha256: Hexadecimal SHA-256 of the file.
        size: Bytes.
    """

    name: str
    version: str
    arch: str
    archive: str
    filename: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """File name without its folder, as kept in the cache."""
        return PurePosixPath(self.filename).name

    def to_dict(self) -> dict[str, str | int]:
        """Return the fields as they stand in a lock, in a fixed order."""
        return {
            "name": self.name,
            "version": self.version,
            "arch": self.arch,
            "archive": self.archive,
            "filename": self.filename,
            "sha256": self.sha256,
            "size": self.size,
        }

    @classmethod
    def from_dict(cls, row: dict[str, str | int]) -> Deb:
        """Read `to_dict`'s form.

        Raises:
            KeyError: a field is missing.
        """
        return cls(
            name=str(row["name"]),
            version=str(row["version"]),
            arch=str(row["arch"]),
            archive=str(row["archive"]),
            filename=str(row["filename"]),
            sha256=str(row["sha256"]),
            size=int(row["size"]),
        )


def parse_file_name(file: str) -> tuple[str, str, str]:
    """Split apt's cache name `libssl3_3.0.17-1%7edeb12u2_amd64.deb` into name, version and architecture.

    Raises:
        ValueError: the name does not have three parts.
    """
    name, version, arch = file.removesuffix(".deb").split("_")
    return name, unquote(version), arch


@dataclass
class LockDrift(SlipwayError):  # noqa: N818 - it names what happened; `SlipwayError` says that it is an error
    """Locked versions that their upstream no longer holds and that are not in the cache.

    Attributes:
        vanished: One `name version` text per package.
    """

    vanished: list[str] = field(default_factory=list)
