"""`channel.yml`: which upstream each package of the channel comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from slipway.channel.yamlfile import YamlFile

if TYPE_CHECKING:
    from pathlib import Path

    from ruamel.yaml.comments import CommentedMap

_KINDS = ("wheel", "deb")
_KEYS = {"upstream", "debs", "licence", "depends", "exclude", "convert", "noarch"}


@dataclass(frozen=True)
class Package:
    """What `channel.yml` says about one package.

    Attributes:
        name: conda-forge's name.
        upstream: `wheel` or `deb`.
        debs: Debian packages that make it up; the first gives the version.
        licence: SPDX expression; needed for `deb`, whose packages do not state one in machine-readable form.
        depends: conda match specifications added to what upstream states.
        exclude: Globs over installed paths that are left out.
        convert: Name of a special conversion: empty or `cpython`.
        noarch: Whether a `deb` package holds no machine code.
        line: Line in `channel.yml`, from 1; 0 for a package that is not named there.
    """

    name: str
    upstream: str
    debs: tuple[str, ...] = ()
    licence: str = ""
    depends: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    convert: str = ""
    noarch: bool = False
    line: int = 0


@dataclass(frozen=True)
class ChannelConfig:
    """The whole of `channel.yml`.

    Attributes:
        name: Name of the channel.
        suite: Debian release of the `deb` packages.
        default: Upstream kind of packages that are not named.
        names: conda name -> normalised name on the Python index, where they differ.
        packages: The packages named, by conda name.
    """

    name: str
    suite: str
    default: str
    names: dict[str, str]
    packages: dict[str, Package]

    def package(self, name: str) -> Package:
        """Return what is said about `name`, or the default."""
        return self.packages.get(name) or Package(name, self.default)

    def index_name(self, name: str) -> str:
        """Return the Python index's normalised name of a conda package."""
        return self.names.get(name) or canonicalize_name(name)

    def conda_name(self, index_name: str) -> str:
        """Return the conda name of a distribution of the Python index."""
        normal = canonicalize_name(index_name)
        return next((conda for conda, index in self.names.items() if index == normal), normal)


def read_config(path: Path) -> ChannelConfig:
    """Read and check `channel.yml`.

    Raises:
        SlipwayError: something in it is not what was expected; the message names the line.
    """
    file = YamlFile(path)
    root = file.root
    file.check_keys(root, {"name", "suite", "default", "names", "packages"}, {"name", "suite", "default"})
    default = file.text(root, "default")
    if default != "wheel":
        file.fail(file.line(root, "default"), "default", default, "wheel; name the others under packages")
    names = file.mapping(root, "names")
    packages = file.mapping(root, "packages")
    return ChannelConfig(
        name=file.text(root, "name"),
        suite=file.text(root, "suite"),
        default=default,
        names={name: canonicalize_name(file.text(names, name)) for name in names},
        packages={name: _read_package(file, packages, name) for name in packages},
    )


def _read_package(file: YamlFile, packages: CommentedMap, name: str) -> Package:
    row = file.mapping(packages, name)
    file.check_keys(row, _KEYS, {"upstream"})
    upstream = file.text(row, "upstream")
    if upstream not in _KINDS:
        file.fail(file.line(row, "upstream"), f"upstream of {name}", upstream, f"one of {', '.join(_KINDS)}")
    if upstream == "deb":
        file.check_keys(row, _KEYS, {"debs", "licence"})
    convert = file.text(row, "convert")
    if convert not in {"", "cpython"}:
        file.fail(file.line(row, "convert"), f"convert of {name}", convert, "cpython, or no such key")
    noarch = row.get("noarch", False)
    if not isinstance(noarch, bool):
        file.fail(file.line(row, "noarch"), f"noarch of {name}", noarch, "true or false")
    return Package(
        name=name,
        upstream=upstream,
        debs=tuple(file.texts(row, "debs")),
        licence=file.text(row, "licence"),
        depends=tuple(file.texts(row, "depends")),
        exclude=tuple(file.texts(row, "exclude")),
        convert=convert,
        noarch=noarch,
        line=file.line(packages, name),
    )
