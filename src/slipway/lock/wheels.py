"""Choose wheels: keep what is locked while it fits, move only what people ask for or what has vanished."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from slipway.channel.artefact import Artefact, Wheel
from slipway.channel.pip import fetch_wheels, resolve_wheels
from slipway.deb import LockDrift
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.channel.config import ChannelConfig
    from slipway.lock.environment import Environment

_BLAMED = re.compile(r"(?:\(constraint\)|distribution found for|the requirement) ([\w.-]+==[\w.+!-]+?)(?=\.?(?:\s|$))")
"""Where pip names the limit that it could not keep to."""


class WheelLocker:
    """Chooses the wheels of a channel.

    Args:
        config: `channel.yml`.
        old: The artefacts as locked so far.
        upgrade: conda names whose locked version is not kept; `*` for all.
        drift: `relock` or `fail`.
    """

    def __init__(self, config: ChannelConfig, old: list[Artefact], upgrade: frozenset[str], drift: str) -> None:
        self._config = config
        self._old = old
        self._upgrade = upgrade
        self._drift = drift

    def _upgrades(self, name: str) -> bool:
        return "*" in self._upgrade or name in self._upgrade

    def resolve(self, environments: list[Environment], python: Path) -> list[Wheel]:
        """Return the wheels of all environments; a locked version is kept where it still fits.

        Args:
            environments: What people ask for.
            python: The channel's interpreter.

        Raises:
            LockDrift: a locked version has vanished and drift is to fail.
            SlipwayError: the index does not answer, or no wheels satisfy an environment.
        """
        kept = {one.recipe.wheel.name: one.recipe.wheel for one in self._old if one.recipe.wheel}
        constraints = [
            f"{wheel.name}=={wheel.version}"
            for wheel in kept.values()
            if not self._upgrades(self._config.conda_name(wheel.name))
        ]
        wheels: dict[tuple[str, str], Wheel] = {}
        for environment in environments:
            requirements, pinned = _requirements(self._config, environment)
            limits = [line for line in constraints if line.split("==")[0] not in pinned]
            rows = self._resolve_keeping(requirements, limits, python)
            for name, (version, file, sha256) in sorted(rows.items()):
                locked = kept.get(name)
                size = locked.size if locked and locked.sha256 == sha256 else 0
                wheels[name, version] = Wheel(name, version, file, sha256, size)
        fetched = fetch_wheels(list(wheels.values()))
        return [
            Wheel(wheel.name, wheel.version, wheel.file, wheel.sha256, path.stat().st_size)
            for wheel, path in fetched.items()
        ]

    def _resolve_keeping(
        self, requirements: list[str], limits: list[str], python: Path
    ) -> dict[str, tuple[str, str, str]]:
        """Resolve within `limits`; a limit whose version has vanished, or that contradicts a new pin, is given up."""
        kept = limits
        for _ in range(len(limits) + 1):
            try:
                return resolve_wheels(requirements, kept, python)
            except SlipwayError as error:
                blamed = set(_BLAMED.findall(error.seen))
                named = [line for line in kept if line in blamed]
                if not named:
                    raise
                if self._drift == "fail":
                    raise LockDrift(
                        "locked wheels are no longer on the index, or contradict environment.yml",
                        seen=error.seen,
                        rule="slipway_lock_drift is fail: a locked version is kept",
                        edit="environment.yml",
                        run=f"nox -s lock -- --upgrade {named[0].split('==')[0]}",
                        vanished=named,
                    ) from error
                kept = [line for line in kept if line not in named]
        return resolve_wheels(requirements, [], python)


def _requirements(config: ChannelConfig, environment: Environment) -> tuple[list[str], set[str]]:
    """Return an environment's wheels as PEP 508 requirements, and the normalised names of those that are pinned."""
    requirements: list[str] = []
    pinned: set[str] = set()
    for dependency in environment.dependencies:
        package = config.package(dependency.name)
        if package.upstream != "wheel":
            continue
        name = config.index_name(dependency.name)
        if dependency.version:
            pinned.add(canonicalize_name(name))
        requirements.append(f"{name}=={dependency.version}" if dependency.version else name)
    return requirements, pinned
