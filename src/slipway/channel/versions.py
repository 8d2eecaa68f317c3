"""Translate versions and requirements: the Python index's and Debian's into conda's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

_DEBIAN_TAIL = re.compile(r"[+.~](dfsg|ds|really|repack|debian)[\d.]*")


def conda_version(version: str) -> str:
    """Return the public part of a PEP 440 version; conda-forge does not carry local parts such as `+cpu` either."""
    return Version(version).public


def conda_version_of_deb(version: str) -> str:
    """Return the upstream part of a Debian version: without epoch, revision and repacking marks.

    `1:1.2.13.dfsg-1` gives `1.2.13`, `3.0.22-1~deb12u2` gives `3.0.22`, `2026f-0+deb12u1` gives `2026f`.
    """
    upstream = version.split(":", 1)[-1].rsplit("-", 1)[0]
    return _DEBIAN_TAIL.split(upstream)[0].replace("~", "_")


def conda_range(specifiers: SpecifierSet) -> str:
    """Return a PEP 440 specifier set as a conda version range, for example `>=1.4,<2`; empty for "any"."""
    parts = []
    for specifier in sorted(specifiers, key=str):
        operator, version = specifier.operator, specifier.version
        if operator == "~=":
            release = Version(version).release
            parts += [f">={version}", f"{'.'.join(map(str, release[:-1]))}.*"]
        elif operator in {"==", "==="} and version.endswith(".*"):
            parts.append(version)
        elif operator in {"==", "==="}:
            parts.append(f"=={conda_version(version)}")
        else:
            parts.append(f"{operator}{version}")
    return ",".join(parts)
