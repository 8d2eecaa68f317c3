"""Is the environment that this Python runs in the locked one? Needs nothing but the standard library.

    python -m token_service.environment [LOCKFILE]             records, versions and modules, in a tenth of a second
    python -m token_service.environment --imports [LOCKFILE]   the same, then import every package, one by one

LOCKFILE is an `@EXPLICIT` list as conda, mamba and `nox -s lock` write it; by default the one that came with the
environment, `PREFIX/conda-meta/lock.txt`. Exit status 1 and one line on standard error for each package that differs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import re
import sys
import time
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOCK = "conda-meta/lock.txt"
"""Where the lock lies below an environment's prefix."""

_FILE = re.compile(r"(?P<name>[^/]+)-(?P<version>[^-/]+)-(?P<build>[^-/]+)\.(?:conda|tar\.bz2)")
_SITE = re.compile(r"lib/python[\d.]+/site-packages/(?P<path>.+)")

_LOADERS = {
    "bzip2": "bz2",
    "libexpat": "pyexpat",
    "libffi": "ctypes",
    "liblzma": "lzma",
    "libsqlite": "sqlite3",
    "libuuid": "_uuid",
    "libxcrypt": "_crypt",
    "libzlib": "zlib",
    "ncurses": "curses",
    "openssl": "ssl",
    "readline": "readline",
}
"""Package of a shared library -> the module of Python itself that loads it."""

_NOT_IMPORTED = {
    "_distutils_hack": "replaces the import system's finders; the interpreter has done it at its start",
    "isympy": "a program: it sets up a session",
}
"""Top-level module -> why importing it would change this process."""


@dataclass(frozen=True)
class Package:
    """One line of the lock.

    Attributes:
        name: Name in the channel.
        version: Version in the channel, without a local part.
        build: Build string.
        sha256: Of the package file, or empty when the list does not say.
    """

    name: str
    version: str
    build: str
    sha256: str

    @property
    def identity(self) -> str:
        """Version and build, as messages show them."""
        return f"{self.version} {self.build}"


class LockError(Exception):
    """The lock cannot be read; the text says why."""


def read(lock: Path) -> list[Package]:
    """Return the packages of an `@EXPLICIT` list.

    Raises:
        LockError: the file is missing, is not such a list, or names no package.
    """
    try:
        lines = [line.strip() for line in lock.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"cannot read the lock: {error}") from None
    packages = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith(("#", "@")):
            continue
        address, _, digest = line.partition("#")
        match = _FILE.fullmatch(address.rpartition("/")[2])
        if match is None:
            raise LockError(f"{lock}:{number} names no package: {line[:200]}")
        packages.append(Package(**match.groupdict(), sha256=digest.removeprefix("sha256:")))
    if "@EXPLICIT" not in lines or not packages:
        raise LockError(f"{lock} is no list of packages: it has no line @EXPLICIT, or nothing after it")
    return packages


def check(lock: Path, prefix: Path, *, imports: bool = False) -> list[str]:
    """Compare the environment at `prefix` with `lock`.

    Args:
        lock: An `@EXPLICIT` list.
        prefix: The environment's folder. Modules are looked up as this process would find them when it is the one
            that runs, and in its own site-packages otherwise.
        imports: Import every module as well; only for the running environment.

    Returns:
        One line per difference that names the package, what was seen and what is wanted; empty when there is none.
    """
    try:
        packages = read(lock)
        rows = _records(prefix)
    except LockError as error:
        return [str(error)]
    path = _search_path(prefix)
    found = [f"{name}: {rows[name]['version']} seen, which is not locked" for name in _extra(packages, rows)]
    for package in packages:
        row = rows.get(package.name)
        found += _differences(package, row, prefix, path)
        if imports and row is not None:
            found += _failed_imports(package, _modules(row))
    return found


def _records(prefix: Path) -> dict[str, dict[str, Any]]:
    """Return package name -> its record in conda-meta."""
    rows = {}
    for file in (prefix / "conda-meta").glob("*.json"):
        try:
            row = json.loads(file.read_bytes())
            rows[str(row["name"])] = row
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise LockError(f"cannot read the record {file}: {error!r}") from None
    return rows


def _search_path(prefix: Path) -> list[str]:
    if prefix.resolve() == Path(sys.prefix).resolve():
        return sys.path
    return [str(folder) for folder in prefix.glob("lib/python*/site-packages")]


def _extra(packages: Sequence[Package], rows: dict[str, dict[str, Any]]) -> list[str]:
    return sorted(rows.keys() - {package.name for package in packages})


def _differences(package: Package, row: dict[str, Any] | None, prefix: Path, path: list[str]) -> Iterator[str]:
    """Yield what is wrong with one package, without importing it."""
    if row is None:
        yield f"{package.name}: not installed, {package.identity} wanted"
        return
    seen = f"{row['version']} {row['build']}"
    if seen != package.identity:
        yield f"{package.name}: {seen} seen, {package.identity} wanted"
    elif package.sha256 and row.get("sha256", package.sha256) != package.sha256:  # not every tool records it
        yield f"{package.name}: {seen} with sha256 {row.get('sha256')} seen, {package.sha256} wanted"
    if package.name == "python" and platform.python_version() != package.version:
        yield f"python: {platform.python_version()} runs, {package.version} wanted"
    for name in _distributions(row):
        version = _version(name, path)
        if version != package.version:
            yield f"{package.name}: distribution {name} {version or 'missing'} seen, {package.version} wanted"
    for name in _modules(row):
        problem = _misplaced(name, prefix, path)
        if problem:
            yield f"{package.name} {package.version}: module {name} {problem}"


def _distributions(row: dict[str, Any]) -> list[str]:
    """Return the names of the Python distributions that a package installed, from their folders."""
    paths = [match["path"].split("/") for match in map(_SITE.fullmatch, row["files"]) if match]
    # At the top level: what a package carries inside itself (setuptools does) is not installed.
    return sorted(parts[0].split("-")[0] for parts in paths if len(parts) == 2 and parts[1] == "METADATA")  # noqa: PLR2004


def _version(name: str, path: list[str]) -> str:
    """Return the version that importlib.metadata gives, without its local part; empty when it knows none."""
    first = next(iter(Distribution.discover(name=name, path=path)), None)
    return first.version.split("+")[0] if first else ""


def _modules(row: dict[str, Any]) -> list[str]:
    """Return the top-level modules that a package installed."""
    names = set()
    for match in map(_SITE.fullmatch, row["files"]):
        if match is None:
            continue
        top, below, _ = match["path"].partition("/")
        if below and match["path"].endswith((".py", *EXTENSION_SUFFIXES)):
            names.add(top)
        elif not below:
            names.update(top.removesuffix(end) for end in (".py", *EXTENSION_SUFFIXES) if top.endswith(end))
    return sorted(name for name in names if name.isidentifier())


def _misplaced(name: str, prefix: Path, path: list[str]) -> str:
    """Tell what is wrong with where a module would be loaded from; empty when it is the environment's own."""
    spec = PathFinder.find_spec(name, path)
    if spec is None:
        return "is missing"
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    strangers = [place for place in places if not Path(place).resolve().is_relative_to(prefix.resolve())]
    return f"comes from {strangers[0]}, not from the environment" if strangers else ""


def _failed_imports(package: Package, modules: Sequence[str]) -> Iterator[str]:
    """Import a package's modules in this process and yield the failures."""
    loader = _LOADERS.get(package.name)
    for name in [*modules, *([loader] if loader else [])]:
        if name in _NOT_IMPORTED:
            continue
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a package does wrong is the finding
            text = " ".join(str(error).split())[:300]
            yield f"{package.name} {package.version}: import {name} fails: {type(error).__name__}: {text}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line above; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lock", nargs="?", type=Path, default=Path(sys.prefix) / LOCK, metavar="LOCKFILE")
    parser.add_argument("--imports", action="store_true", help="import every package as well")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    found = check(options.lock, Path(sys.prefix), imports=options.imports)
    for line in found:
        sys.stderr.write(f"{line}\n")
    if found:
        return 1
    what = "imported" if options.imports else "checked"
    count = len(read(options.lock))
    seconds = time.monotonic() - started
    sys.stdout.write(f"{count} packages and Python {platform.python_version()} {what} in {seconds:.2f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
