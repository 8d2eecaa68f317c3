"""Ask pip, configured as this machine has it, which wheels to use and where to get them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from slipway import paths
from slipway.channel.wheel import PYTHON
from slipway.deb import LockDrift
from slipway.errors import SlipwayError
from slipway.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipway.channel.artefact import Wheel

_NEWEST_GLIBC_MINOR = 36
"""bookworm's glibc is 2.36; wheels for newer ones do not load in the images."""

_PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(_NEWEST_GLIBC_MINOR, 4, -1)),
    *("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"),
]
_OPTIONS = [
    *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"),
    *(f"--platform={platform}" for platform in _PLATFORMS),
    *("--timeout=30", "--retries=3", "--no-input", "--disable-pip-version-check"),
]
_GROUPS = 4


def resolve_wheels(requirements: list[str], constraints: list[str], python: Path) -> dict[str, tuple[str, str, str]]:
    """Return the wheels that satisfy `requirements` with all they depend on.

    Args:
        requirements: PEP 508 requirements.
        constraints: `name==version` lines to keep to, for example the last lock's.
        python: The channel's interpreter; environment markers are evaluated by it, not by the operator's Python.

    Returns:
        Normalised name -> (version, file name, SHA-256).

    Raises:
        SlipwayError: the index does not answer, a requirement has no wheel, or they contradict one another.
    """
    with tempfile.TemporaryDirectory() as name:
        report = Path(name, "report.json")
        limits = Path(name, "constraints.txt")
        limits.write_text("\n".join(constraints))
        words = ["install", "--dry-run", "--ignore-installed", f"--report={report}", f"--constraint={limits}"]
        _, said = _pip([*words, f"--target={name}/t", *_OPTIONS, *requirements], python)
        if not report.is_file():
            raise _explain(said, "pip cannot resolve the wheels of the environments")
        rows: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    wheels: dict[str, tuple[str, str, str]] = {}
    for row in rows:
        url = row["download_info"]["url"]
        file = unquote(PurePosixPath(urlsplit(url).path).name)
        digest = row["download_info"]["archive_info"]["hashes"]["sha256"]
        wheels[canonicalize_name(row["metadata"]["name"])] = (row["metadata"]["version"], file, digest)
    return wheels


def fetch_wheels(wheels: list[Wheel], on_done: Callable[[int], None] | None = None) -> dict[Wheel, Path]:
    """Return the files of `wheels` in the cache, downloading and verifying those that are missing.

    Args:
        wheels: What to have.
        on_done: Called, where given, with the bytes of each finished group.

    Raises:
        LockDrift: the index no longer holds one of the versions and the cache does not either.
        SlipwayError: the index does not answer, breaks off, or serves other content than locked.
    """
    folder = paths.CACHE / "wheels"
    targets = {wheel: folder / wheel.sha256 / wheel.file for wheel in wheels}
    missing = [wheel for wheel, target in targets.items() if not target.is_file()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_GROUPS) as pool:
            list(pool.map(lambda group: _fetch_group(group, targets, on_done), _group(missing)))
    return targets


def _group(wheels: list[Wheel]) -> list[list[Wheel]]:
    """Share wheels out to a few pip processes of about the same number of bytes and, after that, of wheels."""
    groups: list[list[Wheel]] = [[] for _ in range(_GROUPS)]
    for wheel in sorted(wheels, key=lambda wheel: (-wheel.size, wheel.name)):
        min(groups, key=lambda group: sum(one.size + (1 << 20) for one in group)).append(wheel)
    return [group for group in groups if group]


def _fetch_group(wheels: list[Wheel], targets: dict[Wheel, Path], on_done: Callable[[int], None] | None) -> None:
    folder = next(iter(targets.values())).parent.parent
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as name:
        requirements = Path(name, "requirements.txt")
        lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in wheels]
        requirements.write_text("\n".join(lines))
        words = ["download", "--no-deps", "--require-hashes", f"--requirement={requirements}", f"--dest={name}"]
        done, said = _pip([*words, *_OPTIONS], None)
        if not done:
            raise _explain(said, "wheels could not be downloaded", vanished=wheels)
        for wheel in wheels:
            file = Path(name, wheel.file)
            if not file.is_file() or sha256_file(file) != wheel.sha256:
                raise _explain(said, f"the index served another file than {wheel.file}")
            targets[wheel].parent.mkdir(exist_ok=True)
            file.replace(targets[wheel])
    if on_done:
        on_done(sum(wheel.size for wheel in wheels))


def _pip(words: list[str], python: Path | None) -> tuple[bool, str]:
    """Run the operator's pip, for another interpreter where given; return whether it succeeded and what it said."""
    other = [f"--python={python}"] if python else []
    # The interpreter that pip describes must not be told about the operator's one.
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *other, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    return done.returncode == 0, done.stdout


def _explain(said: str, what: str, vanished: list[Wheel] | None = None) -> SlipwayError:
    """Return the error that tells pip's failure in this project's terms."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    cut = next((index for index, line in enumerate(lines) if line.startswith("ERROR")), len(lines))
    seen = " ".join(lines[cut : cut + 12])[:1500] or " ".join(lines[-3:])
    if "DO NOT MATCH THE HASHES" in said:
        expected = ", ".join(re.findall(r"Expected sha256 (\w+)", said))
        got = ", ".join(re.findall(r"Got\s+(\w+)", said))
        names = ", ".join(re.findall(r"(\S+==\S+) from", said))
        return SlipwayError(
            f"{what}: {names} has another SHA-256 than locked",
            seen=got,
            rule=expected,
            edit="nothing before it is known why the file changed; the index may be compromised",
            run="nox -s lock -- --upgrade NAME, once the new file is trusted",
        )
    broken = [line for line in lines if "Retrying (" in line or "timed out" in line or "onnection" in line]
    if broken:
        return SlipwayError(
            f"{what}: the Python index does not answer or breaks off",
            seen=broken[-1][:600],
            rule="an answer within 30 seconds, in one of 4 attempts",
            edit="pip's configuration (pip config list), if this is the wrong index",
            run="the same command again; finished downloads are kept",
        )
    gone = [line for line in errors if line.startswith(("No matching distribution", "Could not find a version"))]
    if gone and vanished is not None:
        names_gone = [f"{one.name} {one.version}" for one in vanished if f"{one.name}=={one.version}" in "".join(gone)]
        return LockDrift(
            "locked wheels are no longer on the index",
            seen=", ".join(names_gone) or seen,
            rule="a locked version must be on the index or in .slipway/cache/wheels",
            run="nox -s lock (relocks what vanished; or set slipway_lock_drift: relock)",
            vanished=names_gone,
        )
    return SlipwayError(
        what,
        seen=seen,
        rule="every package of environment.yml has a wheel for CPython 3.11 on x86_64 Linux, and they agree",
        edit="environment.yml, or names in channel.yml when conda-forge's name differs from the index's",
        run="nox -s lock",
    )
