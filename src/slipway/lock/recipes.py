"""Work out recipes: from `channel.yml`, Debian's versions and the wheels' own metadata."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from slipway.channel.artefact import Recipe, Wheel
from slipway.channel.versions import conda_range, conda_version, conda_version_of_deb
from slipway.channel.wheel import PYTHON, is_pure, licence_of, read_metadata

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from slipway.channel.config import ChannelConfig, Package
    from slipway.deb import Deb

_DEBIAN_GLIBC = "__glibc >=2.36"
_OF_ENVIRONMENT = re.compile(r"\b(os_name|sys_platform|platform_\w+|python_\w*version|implementation_\w+)\b")
_MANYLINUX = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}


def deb_recipe(package: Package, debs: dict[str, Deb]) -> Recipe:
    """Return the recipe of a package with upstream `deb`.

    Raises:
        KeyError: one of its Debian packages is not among `debs`.
    """
    own = tuple(debs[name] for name in package.debs)
    glibc = () if package.noarch else (_DEBIAN_GLIBC,)
    return Recipe(
        name=package.name,
        version=conda_version_of_deb(own[0].version),
        subdir="noarch" if package.noarch else "linux-64",
        kind="deb",
        licence=package.licence,
        depends=tuple(sorted({*package.depends, *glibc})),
        debs=own,
        exclude=package.exclude,
        convert=package.convert,
    )


class WheelRecipes:
    """Recipes of a set of wheels that refer to one another.

    Args:
        config: `channel.yml`.
        wheels: Every wheel of the set with its file.
        python_version: Full version of the channel's CPython, for environment markers.
    """

    def __init__(self, config: ChannelConfig, wheels: dict[Wheel, Path], python_version: str) -> None:
        self._config = config
        self._wheels = wheels
        self._metadata: dict[str, Message] = {wheel.name: read_metadata(path) for wheel, path in wheels.items()}
        self._markers = {
            "implementation_name": "cpython",
            "implementation_version": python_version,
            "os_name": "posix",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": python_version,
            "python_version": PYTHON,
            "sys_platform": "linux",
        }

    def all(self) -> list[Recipe]:
        """Return one recipe per wheel, sorted by name."""
        return sorted((self._recipe(wheel) for wheel in self._wheels), key=lambda recipe: recipe.name)

    def _recipe(self, wheel: Wheel) -> Recipe:
        name = self._config.conda_name(wheel.name)
        package = self._config.package(name)
        metadata = self._metadata[wheel.name]
        noarch = is_pure(self._wheels[wheel]) and not self._depends_on_platform(metadata)
        python = conda_range(SpecifierSet(str(metadata.get("Requires-Python") or ""))) if noarch else ""
        major, minor = PYTHON.split(".")
        depends = {f"python {python}".strip() if noarch else f"python >={PYTHON},<{major}.{int(minor) + 1}.0a0"}
        if not noarch and (glibc := _oldest_glibc(wheel.file)):
            depends.add(f"__glibc >={glibc}")
        depends |= {*package.depends, *self._requirements(wheel.name, frozenset({""}), set())}
        return Recipe(
            name=name,
            version=conda_version(wheel.version),
            subdir="noarch" if noarch else "linux-64",
            kind="wheel",
            licence=package.licence or licence_of(metadata),
            depends=tuple(sorted(depends)),
            wheel=wheel,
            exclude=package.exclude,
            build_prefix="py" if noarch else f"py{major}{minor}",
        )

    def _depends_on_platform(self, metadata: Message) -> bool:
        """Whether the package needs something on some platforms or Python versions only; noarch cannot say that."""
        for text in metadata.get_all("Requires-Dist", []):
            marker = str(Requirement(text).marker or "")
            if "extra" not in marker and _OF_ENVIRONMENT.search(marker):
                return True
        return False

    def _requirements(self, name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
        """Return conda specifications for what `name` needs with `extras`; an extra of a dependency is spelt out."""
        seen.add((name, extras))
        specs: set[str] = set()
        for text in self._metadata[name].get_all("Requires-Dist", []):
            requirement = Requirement(text)
            if not self._applies(requirement, extras):
                continue
            other = canonicalize_name(requirement.name)
            specs.add(f"{self._config.conda_name(other)} {conda_range(requirement.specifier)}".strip())
            wanted = frozenset(requirement.extras)
            if wanted and other in self._metadata and (other, wanted) not in seen:
                specs |= self._requirements(other, wanted, seen)
        return specs

    def _applies(self, requirement: Requirement, extras: frozenset[str]) -> bool:
        """Whether a requirement holds for one of `extras`; the base requirements belong to the extra named ""."""
        marker = requirement.marker
        if marker is None:
            return "" in extras
        return any(
            marker.evaluate({**self._markers, "extra": extra}) and (not extra or "extra" in str(marker))
            for extra in extras
        )


def _oldest_glibc(file: str) -> str:
    """Return the oldest glibc that one of a wheel's platform tags promises to work with; empty without such a tag."""
    tags = file.removesuffix(".whl").split("-")[-1].split(".")
    found = [match for match in (re.fullmatch(r"manylinux_(\d+)_(\d+)_x86_64", tag) for tag in tags) if match]
    versions = [(int(match[1]), int(match[2])) for match in found]
    for old, version in _MANYLINUX.items():
        if f"{old}_x86_64" in tags:
            major, minor = version.split(".")
            versions.append((int(major), int(minor)))
    return ".".join(map(str, min(versions))) if versions else ""
