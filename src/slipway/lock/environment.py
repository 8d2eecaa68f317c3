"""`environment.yml` and `environments/*.yml`: what an environment is to hold, as a person writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rattler import MatchSpec

from slipway.channel.yamlfile import YamlFile

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Dependency:
    """One line of an environment.

    Attributes:
        spec: The match specification, for example `pytorch=2.13.0`.
        name: conda name.
        version: The version after `=` or `==`; empty when the specification is not a pin.
        line: Line in the file, from 1.
    """

    spec: str
    name: str
    version: str
    line: int


@dataclass(frozen=True)
class Environment:
    """One environment file.

    Attributes:
        name: Name of the environment; its lock is `locks/<name>.lock`.
        file: File name, for messages.
        dependencies: In the file's order.
    """

    name: str
    file: str
    dependencies: list[Dependency]


def read_environments(root: Path) -> list[Environment]:
    """Read `environment.yml` and `environments/*.yml` of a checkout.

    Raises:
        SlipwayError: a file is malformed; the message names file, line and what was expected.
    """
    return [read_environment(path) for path in [root / "environment.yml", *sorted(root.glob("environments/*.yml"))]]


def read_environment(path: Path) -> Environment:
    """Read and check one environment file.

    Raises:
        SlipwayError: something in it is not what was expected; the message names the line.
    """
    file = YamlFile(path)
    file.check_keys(file.root, {"name", "channels", "dependencies"}, {"name", "dependencies"})
    rows = file.root["dependencies"]
    specs = file.texts(file.root, "dependencies")
    dependencies: list[Dependency] = []
    for index, spec in enumerate(specs):
        line = file.line(rows, index)
        dependency = _parse(file, spec, line)
        if any(other.name == dependency.name for other in dependencies):
            file.fail(line, "a package named twice", dependency.name, "each package once")
        dependencies.append(dependency)
    return Environment(file.text(file.root, "name"), file.name, dependencies)


def _parse(file: YamlFile, spec: str, line: int) -> Dependency:
    try:
        parsed = MatchSpec(spec)
    except Exception as error:  # noqa: BLE001 - rattler raises its own type for each kind of mistake
        file.fail(line, "a dependency", spec, f"a conda match specification such as pytorch=2.13.0 ({error})")
    name = parsed.name.normalized if parsed.name else ""
    if not name:
        file.fail(line, "a dependency", spec, "a specification that names a package")
    version = spec.partition("=")[2].lstrip("=").strip() if "=" in spec and not set(spec) & set("<>!~*,|") else ""
    return Dependency(spec, name, version, line)
