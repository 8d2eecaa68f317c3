"""Make the locks: resolve, fetch, convert, solve, write."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slipway import paths
from slipway.channel.build import is_built, mark_built
from slipway.channel.config import ChannelConfig, read_config
from slipway.channel.convert import Job, convert_all
from slipway.channel.index import index_channel
from slipway.channel.pip import fetch_wheels
from slipway.deb import Archive, LockDrift
from slipway.errors import SlipwayError
from slipway.files import sha256_file, write_atomic
from slipway.lock.environment import Environment, read_environments
from slipway.lock.images import lock_images
from slipway.lock.interpreter import install_interpreter
from slipway.lock.recipes import WheelRecipes, deb_recipe
from slipway.lock.solve import render_explicit, render_lock, solve_environment
from slipway.lock.store import (
    HEADER,
    ChannelLock,
    digest_inputs,
    read_channel_lock,
    read_image_lock,
    write_channel_lock,
    write_image_lock,
)
from slipway.lock.wheels import WheelLocker
from slipway.progress import say

if TYPE_CHECKING:
    from slipway.channel.artefact import Artefact, Recipe, Wheel
    from slipway.deb import Deb


@dataclass
class Relock:
    """One run of `slipway lock`.

    Args:
        root: The checkout.
        upgrade: conda or Debian names whose locked version is not kept; `*` for all.
        drift: `relock` locks what replaces a vanished version, `fail` stops there.
        archive: The Debian packages; the channel's suite through the machine's mirror by default.
        differences: After a run: one line per package whose lock changed.
    """

    root: Path = paths.ROOT
    upgrade: frozenset[str] = frozenset()
    drift: str = "relock"
    archive: Archive | None = None
    differences: list[str] = field(default_factory=list)

    def run(self) -> bool:
        """Write all locks and return whether any changed; `differences` then says what.

        Raises:
            SlipwayError: an input is malformed, a package is not provided, or an environment cannot be solved;
                the locks are then as they were.
        """
        locks = self.root / "locks"
        config = read_config(self.root / "channel.yml")
        environments = read_environments(self.root)
        old = read_channel_lock(locks).artefacts if (locks / "channel.yml").is_file() else []
        old_images = read_image_lock(locks)
        archive = self.archive or Archive(config.suite)

        say("lock: Debian packages")
        archive.update()
        known = {deb for one in old for deb in one.recipe.debs} | {deb for debs in old_images.values() for deb in debs}
        pins = {deb.name: deb.version for deb in known if not self._upgrades(deb.name)}
        images = lock_images(self.root, archive, pins)
        deb_recipes = self._deb_recipes(config, archive, pins)
        self._check_debs(images, deb_recipes, pins)
        debs = archive.fetch([deb for recipe in deb_recipes for deb in recipe.debs])
        files: dict[Deb | Wheel, Path] = dict(zip([d for r in deb_recipes for d in r.debs], debs, strict=True))
        artefacts = self._convert(deb_recipes, files, old)

        say("lock: wheels")
        python = next((recipe for recipe in deb_recipes if recipe.convert == "cpython"), None)
        if python is None:
            raise SlipwayError(
                "the channel has no python",
                rule="one package with convert: cpython",
                edit="channel.yml",
                run="nox -s lock",
            )
        interpreter = install_interpreter(paths.CHANNEL, artefacts)
        wheels = WheelLocker(config, old, self.upgrade, self.drift).resolve(environments, interpreter)
        found = fetch_wheels(wheels)
        files.update(found.items())
        recipes = WheelRecipes(config, found, python.version).all()
        artefacts += self._convert(recipes, files, old)

        say("lock: environments")
        self._keep_only(artefacts)
        lock = ChannelLock(digest_inputs(self.root), artefacts)
        if not is_built(lock, paths.CHANNEL):
            index_channel(paths.CHANNEL)
        changed = self._write(locks, environments, lock, images)
        mark_built(lock, paths.CHANNEL)
        return changed

    def _upgrades(self, name: str) -> bool:
        return "*" in self.upgrade or name in self.upgrade

    def _deb_recipes(self, config: ChannelConfig, archive: Archive, pins: dict[str, str]) -> list[Recipe]:
        packages = [package for package in config.packages.values() if package.upstream == "deb"]
        names = sorted({deb for package in packages for deb in package.debs})
        resolved = {deb.name: deb for deb in archive.resolve(names, None, pins)}
        return [deb_recipe(package, resolved) for package in packages]

    def _check_debs(self, images: dict[str, list[Deb]], recipes: list[Recipe], pins: dict[str, str]) -> None:
        """Refuse, where drift is to fail, Debian packages whose kept version the archive no longer has."""
        found = {deb for recipe in recipes for deb in recipe.debs} | {deb for debs in images.values() for deb in debs}
        moved = sorted(
            f"{deb.name} {pins[deb.name]}" for deb in found if pins.get(deb.name, deb.version) != deb.version
        )
        if moved and self.drift == "fail":
            raise LockDrift(
                "locked Debian packages are no longer on the mirror",
                seen=", ".join(moved),
                rule="slipway_lock_drift is fail: a locked version is kept",
                edit="slipway_lock_drift: relock, to lock what replaces them",
                run="nox -s lock -- --drift relock",
                vanished=moved,
            )

    def _convert(self, recipes: list[Recipe], files: dict[Deb | Wheel, Path], old: list[Artefact]) -> list[Artefact]:
        """Return the artefacts of `recipes`, converting those that the channel does not hold as locked."""
        known = {one.recipe.file: one for one in old}
        ready: list[Artefact] = []
        jobs: list[Job] = []
        for recipe in recipes:
            locked = known.get(recipe.file)
            if locked and locked.recipe == recipe and _holds(paths.CHANNEL / locked.path, locked.sha256):
                ready.append(locked)
            else:
                jobs.append(Job(recipe, tuple(files[upstream] for upstream in recipe.upstream)))
        if jobs:
            say(f"lock: converting {len(jobs)} packages")
        return ready + convert_all(jobs, paths.CHANNEL, lambda artefact: say(f"  {artefact.recipe.file}"))

    def _keep_only(self, artefacts: list[Artefact]) -> None:
        """Take packages out of the channel that are not locked, so that they cannot be solved for."""
        wanted = {artefact.path for artefact in artefacts}
        for path in paths.CHANNEL.glob("*/*.conda"):
            if str(path.relative_to(paths.CHANNEL)) not in wanted:
                path.unlink()

    def _write(
        self, locks: Path, environments: list[Environment], lock: ChannelLock, images: dict[str, list[Deb]]
    ) -> bool:
        solved = {environment.name: solve_environment(environment, paths.CHANNEL) for environment in environments}
        with tempfile.TemporaryDirectory() as name:
            texts = {
                f"{environment}.lock": HEADER + render_lock(records, Path(name, "lock"))
                for environment, records in solved.items()
            }
        texts |= {f"{name}.linux-64.txt": HEADER + render_explicit(records) for name, records in solved.items()}
        self._compare(locks, lock, images)
        changed = [write_atomic(locks / file, text) for file, text in texts.items()]
        changed.append(write_image_lock(locks, images))
        # Last, because `--check` and `channel build` start from it: before it stands, the rest does not count.
        changed.append(write_channel_lock(locks, lock))
        return any(changed)

    def _compare(self, locks: Path, lock: ChannelLock, images: dict[str, list[Deb]]) -> None:
        """Note in `differences` what changes against the locks as they stand."""
        before = read_channel_lock(locks).artefacts if (locks / "channel.yml").is_file() else []
        old = {one.recipe.name: f"{one.recipe.version} {one.recipe.build}" for one in before}
        new = {one.recipe.name: f"{one.recipe.version} {one.recipe.build}" for one in lock.artefacts}
        old_images = read_image_lock(locks)
        for image in sorted({*old_images, *images}):
            old |= {f"{image}: {deb.name}": deb.version for deb in old_images.get(image, [])}
            new |= {f"{image}: {deb.name}": deb.version for deb in images.get(image, [])}
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                self.differences.append(f"{name}: {old.get(name, 'new')} -> {new.get(name, 'removed')}")


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256
