"""Conversion: a wheel or a .deb goes in, a .conda that rattler installs comes out, always with the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rattler import RepoDataRecord, install
from rattler.package_streaming import extract

from slipway.channel.artefact import Content, Member, Recipe, Wheel
from slipway.channel.conda_file import PLACEHOLDER, write_conda
from slipway.channel.convert import Job, convert
from slipway.channel.frozen import hide_frozen_module
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.slipway.conftest import Repository

FILES = {"DATA/scripts/shout": "#!python\nprint('HI')\n", "DATA/data/share/tiny/notes.txt": "notes\n"}


def _recipe(path: Path, subdir: str = "noarch", exclude: tuple[str, ...] = ()) -> Recipe:
    name, version = path.name.split("-")[:2]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    wheel = Wheel(name, version, path.name, digest, path.stat().st_size)
    return Recipe(name, version, subdir, "wheel", "MIT", ("python",), wheel=wheel, exclude=exclude)


def _extract(package: Path, folder: Path) -> Path:
    extract(package, folder)
    return folder


def test_same_wheel_gives_same_bytes(wheel_maker: Callable[..., Path], tmp_path: Path) -> None:
    """Converting twice gives one SHA-256; it is the one that is reported."""
    wheel = wheel_maker(tmp_path, "tiny", files=FILES, entry_points="tiny = tiny:main")
    for name in "ab":
        (tmp_path / name).mkdir()
    first, artefact = convert(Job(_recipe(wheel), (wheel,)), tmp_path / "a")
    second, _ = convert(Job(_recipe(wheel), (wheel,)), tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert artefact.sha256 == hashlib.sha256(first.read_bytes()).hexdigest()


def test_noarch_wheel_leaves_scripts_to_the_installer(wheel_maker: Callable[..., Path], tmp_path: Path) -> None:
    """link.json names the entry point; files lie where noarch packages have them; the licence text is in info."""
    wheel = wheel_maker(tmp_path, "tiny", files=FILES, entry_points="tiny = tiny:main")
    package, _ = convert(Job(_recipe(wheel), (wheel,)), tmp_path)
    tree = _extract(package, tmp_path / "tree")
    link = json.loads((tree / "info/link.json").read_text())
    assert link["noarch"] == {"type": "python", "entry_points": ["tiny = tiny:main"]}
    assert (tree / "site-packages/tiny/__init__.py").is_file()
    assert (tree / "python-scripts/shout").read_text().startswith(f"#!{PLACEHOLDER}/bin/python\n")
    assert (tree / "info/licenses/LICENSE").read_text() == "permission is granted\n"
    assert json.loads((tree / "info/index.json").read_text())["license"] == "MIT"


def test_platform_wheel_gets_scripts_with_the_prefix(wheel_maker: Callable[..., Path], tmp_path: Path) -> None:
    """Installed into a prefix, a script's first line names that prefix's Python."""
    wheel = wheel_maker(tmp_path, "tiny", files=FILES, entry_points="tiny = tiny:main")
    package, _ = convert(Job(_recipe(wheel, "linux-64"), (wheel,)), tmp_path)
    prefix = tmp_path / "prefix"

    async def _install() -> None:
        record = await RepoDataRecord.from_package_archive(package)
        await install([record], prefix, cache_dir=tmp_path / "pkgs", show_progress=False)

    asyncio.run(_install())
    assert (prefix / "bin/tiny").read_text().startswith(f"#!{prefix}/bin/python3.11\n")
    assert (prefix / "bin/shout").read_text().startswith(f"#!{prefix}/bin/python\n")
    assert (prefix / "share/tiny/notes.txt").read_text() == "notes\n"


def test_record_lists_what_is_installed(wheel_maker: Callable[..., Path], tmp_path: Path) -> None:
    """RECORD names moved files at their new places, and excluded ones not at all."""
    wheel = wheel_maker(tmp_path, "tiny", files={**FILES, "tiny/tests/big.txt": "x"}, entry_points="tiny = tiny:main")
    package, _ = convert(Job(_recipe(wheel, "linux-64", ("tiny/tests/*",)), (wheel,)), tmp_path)
    site = _extract(package, tmp_path / "tree") / "lib/python3.11/site-packages"
    names = [line.rsplit(",", 2)[0] for line in (site / "tiny-1.0.dist-info/RECORD").read_text().splitlines()]
    assert {"../../../bin/tiny", "../../../bin/shout", "../../../share/tiny/notes.txt"} <= set(names)
    assert all((site / name).exists() for name in names)
    assert not (site / "tiny/tests").exists()


def test_build_string_changes_with_what_decides_the_content(wheel_maker: Callable[..., Path], tmp_path: Path) -> None:
    """Other bytes never come under the same file name."""
    recipe = _recipe(wheel_maker(tmp_path, "tiny"))
    assert replace(recipe, exclude=("a/*",)).file != recipe.file
    assert replace(recipe, depends=("python", "numpy")).file != recipe.file


def test_path_that_leaves_the_environment_is_refused(wheel_maker: Callable[..., Path], tmp_path: Path) -> None:
    """A wheel cannot write outside its prefix."""
    wheel = wheel_maker(tmp_path, "tiny", files={"../../evil.py": "x"})
    with pytest.raises(ValueError, match="leaves the environment"):
        convert(Job(_recipe(wheel), (wheel,)), tmp_path)


def test_file_time_follows_content(tmp_path: Path) -> None:
    """An updated module of equal size gets another time, so that no old .pyc is taken for current."""
    times = []
    for text in (b"a = 1\n", b"a = 2\n"):
        recipe = Recipe("tiny", "1.0", "noarch", "deb", "MIT", ())
        target = tmp_path / f"{text[4:5].decode()}.conda"
        write_conda(recipe, Content([Member("lib/a.py", text)], {}), target)
        times.append((_extract(target, target.with_suffix("")) / "lib/a.py").stat().st_mtime)
    assert times[0] != times[1]


def test_deb_becomes_a_package(repository: Repository, tmp_path: Path) -> None:
    """Programs land in bin/, the copyright file among the licences."""
    path = repository.add("hello")
    debs = repository.archive(tmp_path).resolve(["hello"])
    recipe = Recipe("hello", "1.0", "linux-64", "deb", "MIT", (), debs=tuple(debs))
    package, _ = convert(Job(recipe, (path,)), tmp_path)
    tree = _extract(package, tmp_path / "tree")
    assert (tree / "bin/hello").read_text().endswith("echo hello\n")
    assert (tree / "info/licenses/hello.txt").read_text() == "licence of hello\n"
    assert not (tree / "share").exists()


def test_damaged_deb_is_named(tmp_path: Path) -> None:
    """A file that is not a .deb gives a message with its name, not a traceback."""
    path = tmp_path / "broken_1_amd64.deb"
    path.write_bytes(b"not an archive")
    recipe = Recipe("broken", "1", "linux-64", "deb", "MIT", ())
    with pytest.raises(SlipwayError, match=r"broken_1_amd64\.deb"):
        convert(Job(recipe, (path,)), tmp_path)


def test_program_without_frozen_table_is_refused() -> None:
    """Another build of Python is noticed, not silently left unpatched."""
    with pytest.raises(SlipwayError, match="frozen module site"):
        hide_frozen_module(b"\x7fELF" + bytes(200), "site")


def test_bytes_do_not_depend_on_the_operators_python(tmp_path: Path) -> None:
    """A fixed package has a fixed SHA-256: Debian 12 and 13 bring different Pythons, the locks are the same."""
    recipe = Recipe("fixed", "1.0", "linux-64", "wheel", "MIT", ())
    content = Content([Member("bin/fixed", b"#!/bin/sh\n", executable=True), Member("lib/fixed.txt", b"fixed\n")], {})
    package = tmp_path / recipe.file
    write_conda(recipe, content, package)
    assert (
        hashlib.sha256(package.read_bytes()).hexdigest()
        == "d362c420a7e2cce7809f491a3de9d1806ed75277247bb009e7b77aa2367dffc6"
    )
