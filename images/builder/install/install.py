"""Install a locked conda environment, offline, and lay it out as layers.

Runs in the builder image during a build. Reads /run/slipway/{channel,lock} and an image's prune.toml and start.py;
writes the environment to its final prefix and hard-links it into /layers/{interpreter,heavy,rest}, so that a change of
one package replaces one layer.
"""

# ruff: noqa: INP001 - copied into the builder image as scripts
from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import source_hash
from pathlib import Path

from layers import split
from rattler import LockFile, install
from rattler.shell import ActivationVariables, PathModificationBehavior, Shell, activate

PREFIX = Path("/opt/slipway/env")
INPUTS = Path("/run/slipway")
LAYERS = Path("/layers")
_CHANNEL_URL = "http://127.0.0.1:8081/slipway"
_MACHINE_FIELDS = ("extracted_package_dir", "package_tarball_full_path", "link")
_SCRATCH = "/tmp"  # noqa: S108 - memory that ends with the build step
_SYSTEM_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


def main() -> None:
    """Run every step; the first that fails ends the build."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    verify_channel()
    install_environment()
    drop_machine_fields()
    prune(INPUTS / "prune.toml")
    write_bytecode(INPUTS / "start.py")
    sizes = split(PREFIX, LAYERS)
    write_entrypoint(LAYERS / "rest" / "opt/slipway/entrypoint")
    set_times(LAYERS, epoch)
    for name, size in sizes.items():
        sys.stdout.write(f"layer {name}: {size / 1e6:.0f} MB\n")


def verify_channel() -> None:
    """Compare every package of the explicit list with its SHA-256."""
    for line in (INPUTS / "lock" / "explicit.txt").read_text().splitlines():
        if not line.startswith(_CHANNEL_URL):
            continue
        address, _, wanted = line.partition("#")
        file = INPUTS / "channel" / address.removeprefix(f"{_CHANNEL_URL}/")
        if not file.is_file():
            sys.exit(f"{file.name}: locked, but not in the channel; run `nox -s channel`")
        with file.open("rb") as stream:
            seen = hashlib.file_digest(stream, "sha256").hexdigest()
        if seen != wanted.removeprefix("sha256:"):
            sys.exit(f"{file.name}: sha256 {seen}, locked {wanted}; run `nox -s channel`")


def install_environment() -> None:
    """Install the lock's packages from the mounted channel. The package cache outlives the build."""
    environment = LockFile.from_path(INPUTS / "lock" / "environment.lock").default_environment()
    if environment is None:
        sys.exit("environment.lock holds no default environment; run `nox -s lock`")
    records = environment.conda_repodata_records()["linux-64"]
    for record in records:
        record.url = record.url.replace(_CHANNEL_URL, (INPUTS / "channel").as_uri(), 1)
    asyncio.run(install(records, target_prefix=PREFIX, cache_dir="/var/cache/slipway", show_progress=False))


def drop_machine_fields() -> None:
    """Take out of conda-meta what says where and how this build unpacked, and name the channel as the lock does."""
    local = (INPUTS / "channel").as_uri()
    for path in PREFIX.glob("conda-meta/*.json"):
        row = json.loads(path.read_text().replace(local, _CHANNEL_URL))
        for field in _MACHINE_FIELDS:
            row.pop(field, None)
        path.write_text(json.dumps(row, indent=1, sort_keys=True) + "\n")
    (PREFIX / "conda-meta" / "history").write_text("")


def prune(rules: Path) -> None:
    """Remove what a running service never reads. A rule that matches nothing is stale and fails the build."""
    for rule in tomllib.loads(rules.read_text())["rule"]:
        found = sorted(PREFIX.glob(rule["path"]))
        if not found:
            sys.exit(f"prune.toml: {rule['path']} matches nothing; remove the rule")
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def write_bytecode(start: Path) -> None:
    """Run the imports of a start and keep the bytecode of exactly those modules, without checks of their source."""
    environment = {"PATH": f"{PREFIX}/bin:/usr/bin:/bin", "PYTHONHASHSEED": "0", "HOME": _SCRATCH, "LC_ALL": "C.UTF-8"}
    subprocess.run([str(PREFIX / "bin" / "python"), str(start)], check=True, env=environment, cwd=_SCRATCH)
    for cached in PREFIX.rglob("__pycache__/*.pyc"):
        source = cached.parent.parent / f"{cached.name.split('.')[0]}.py"
        data = cached.read_bytes()
        # PEP 552: magic number, flags (1: hash-based, unchecked), hash of the source, code. Builder and environment
        # share Python's minor version and therefore its hash.
        cached.write_bytes(data[:4] + (1).to_bytes(4, "little") + source_hash(source.read_bytes()) + data[16:])


def write_entrypoint(path: Path) -> None:
    """Write the environment's activation as a script that runs it once and becomes the given program."""
    variables = ActivationVariables(None, _SYSTEM_PATH, PathModificationBehavior.Replace)
    script = activate(PREFIX, variables, Shell.bash).script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\n# Written when the image was built.\n{script.strip()}\nexec "$@"\n')
    path.chmod(0o755)


def set_times(folder: Path, epoch: int) -> None:
    """Give everything below `folder` one time, and modes that every user can read."""
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


if __name__ == "__main__":
    main()
