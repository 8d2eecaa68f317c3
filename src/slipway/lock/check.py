"""Check, without the network and in under a second, that locks agree with what people wrote and with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.channel.config import read_config
from slipway.errors import SlipwayError
from slipway.lock.environment import Environment, read_environments
from slipway.lock.store import CHANNEL_URL, ChannelLock, digest_inputs, load, read_channel_lock, read_image_lock

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.channel.config import ChannelConfig


def check_locks(root: Path) -> None:
    """Compare the locks of a checkout with its inputs.

    Raises:
        SlipwayError: they disagree; the message names the first line that does.
    """
    lock = read_channel_lock(root / "locks")
    config = read_config(root / "channel.yml")
    environments = read_environments(root)
    for environment in environments:
        _check_environment(root, environment, lock)
    _check_config(config, lock)
    _check_images(root)
    seen = digest_inputs(root)
    for name in sorted({*seen, *lock.inputs}):
        if seen.get(name) != lock.inputs.get(name):
            raise _disagree(f"{name} has changed since it was locked", seen.get(name), lock.inputs.get(name), name)


def _check_environment(root: Path, environment: Environment, lock: ChannelLock) -> None:
    explicit = _explicit(root / "locks" / f"{environment.name}.linux-64.txt")
    locked = {one.recipe.name: one for one in lock.artefacts if explicit.get(one.path) == one.sha256}
    for dependency in environment.dependencies:
        where = f"{environment.file}:{dependency.line}"
        artefact = locked.get(dependency.name)
        if artefact is None:
            raise _disagree(f"{where}: {dependency.spec} is not locked", "no such package", dependency.spec, where)
        version = artefact.recipe.version
        if dependency.version and dependency.version not in {version, version.removesuffix(".0")}:
            raise _disagree(
                f"{where}: {dependency.spec} disagrees with its lock", f"locked {version}", dependency.spec, where
            )
    strangers = sorted(set(explicit) - {one.path for one in lock.artefacts})
    if strangers:
        where = f"locks/{environment.name}.linux-64.txt"
        raise _disagree(
            f"{where} names packages that locks/channel.yml does not", strangers[0], "the same packages", where
        )
    rows = load(root / "locks" / f"{environment.name}.lock")["packages"]
    hashes = {str(row["conda"]).removeprefix(f"{CHANNEL_URL}/"): str(row["sha256"]) for row in rows}
    if hashes != explicit:
        odd = min(set(hashes.items()) ^ set(explicit.items()))
        where = f"locks/{environment.name}.lock"
        raise _disagree(f"{where} and the @EXPLICIT list disagree", f"{odd[0]} {odd[1]}", "the same packages", where)


def _explicit(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise _disagree(f"locks/{path.name} is missing", "no file", "one per environment", f"locks/{path.name}")
    rows = [line.split("#sha256:") for line in path.read_text().splitlines() if line.startswith("http")]
    return {address.removeprefix(f"{CHANNEL_URL}/"): digest for address, digest in rows}


def _check_config(config: ChannelConfig, lock: ChannelLock) -> None:
    for package in config.packages.values():
        artefact = lock.find(package.name)
        where = f"channel.yml:{package.line}"
        if artefact is None:
            if package.upstream == "deb":
                raise _disagree(f"{where}: {package.name} is not locked", "no such package", "locked", where)
            continue
        recipe = artefact.recipe
        said = (package.upstream, package.exclude, package.convert)
        if said != (recipe.kind, recipe.exclude, recipe.convert):
            raise _disagree(
                f"{where}: {package.name} disagrees with its lock",
                f"{recipe.kind}, {len(recipe.exclude)} exclusions",
                f"{package.upstream}, {len(package.exclude)} exclusions",
                where,
            )


def _check_images(root: Path) -> None:
    hierarchy = root / "images/hierarchy.yml"
    if not hierarchy.is_file():
        return
    locked = read_image_lock(root / "locks")
    installed: dict[str, set[str]] = {}
    for name, row in load(hierarchy)["images"].items():
        installed[name] = installed.get(row.get("parent"), set()) | {deb.name for deb in locked.get(name, [])}
        for deb in row.get("debs") or []:
            if deb not in installed[name]:
                where = "images/hierarchy.yml"
                raise _disagree(f"{where}: {deb} of image {name} is not locked", "no such package", deb, where)


def _disagree(what: str, seen: object, rule: object, edit: str) -> SlipwayError:
    return SlipwayError(what, seen=str(seen), rule=f"locks agree with it: {rule}", edit=edit, run="nox -s lock")
