"""What an image is made from, as build contexts and one key that changes exactly when the image must be rebuilt."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway import paths
from slipway.errors import SlipwayError
from slipway.image.contexts import EPOCH, Context, folder_context
from slipway.image.locks import debs_of, environment_lock, explicit_packages

if TYPE_CHECKING:
    from slipway.image.hierarchy import Hierarchy, Image

_FORMAT = "4"
"""Raised when this code builds differently from the same inputs."""


@dataclass(frozen=True)
class Plan:
    """Everything that one build reads.

    Attributes:
        image: The image.
        key: SHA-256 over all of it, parents included.
        lock: SHA-256 over the image's part of the locks, for its label.
        contexts: The first is the Dockerfile's own folder.
    """

    image: Image
    key: str
    lock: str
    contexts: tuple[Context, ...]


def make_plans(hierarchy: Hierarchy, names: list[str]) -> dict[str, Plan]:
    """Plan the images of `names`, which is in build order and complete.

    Raises:
        SlipwayError: a lock, a Dockerfile or a source folder is missing.
    """
    plans: dict[str, Plan] = {}
    for name in names:
        image = hierarchy[name]
        contexts = _contexts(image)
        lock = _lock_key(image)
        rows = [_FORMAT, str(EPOCH), lock, *(f"{context.name} {context.key()}" for context in contexts)]
        rows += [f"{need} {plans[need].key}" for need in image.needs]
        plans[name] = Plan(image, _sha256("\n".join(rows)), lock, tuple(contexts))
    return plans


def _contexts(image: Image) -> list[Context]:
    own = folder_context(image.name, paths.IMAGES / image.name)
    if "Dockerfile" not in own.files:
        raise SlipwayError(
            f"image {image.name} has no Dockerfile",
            seen=str(paths.IMAGES / image.name),
            rule="images/NAME/Dockerfile for every image in images/hierarchy.yml",
        )
    # What only people read must not cause a rebuild.
    own.files = {target: source for target, source in own.files.items() if not target.endswith(".md")}
    contexts = [own]
    if image.debs:
        contexts += [_deb_context(image), folder_context("shared", paths.IMAGES / "shared")]
    if image.kind == "build":
        contexts.append(_rattler_context())
    if image.environment:
        contexts += _environment_contexts(image)
    if image.application:
        source = paths.ROOT / "src" / image.application
        contexts.append(folder_context("application", source, below=f"{image.application}/"))
    return contexts


def _deb_context(image: Image) -> Context:
    debs = debs_of(image)
    cache = paths.CACHE / "debs"
    files = {deb.file: cache / deb.sha256 / deb.file for deb in debs}
    return Context("debs", files, {deb.file: deb.sha256 for deb in debs})


def _environment_contexts(image: Image) -> list[Context]:
    packages = explicit_packages(image.environment)
    lock = environment_lock(image.environment)
    explicit = lock.parent / f"{image.environment}.linux-64.txt"
    return [
        Context("channel", {file: paths.CHANNEL / file for file in packages}, packages),
        Context("lock", {"environment.lock": lock, "explicit.txt": explicit}),
    ]


def _rattler_context() -> Context:
    """Describe the operator's own py-rattler: pip checked its hash when it was installed, and its ABI is stable."""
    distribution = importlib.metadata.distribution("py-rattler")
    files = [file for file in distribution.files or [] if file.parts[0] == "rattler" and file.suffix != ".pyc"]
    located = {str(file): Path(str(distribution.locate_file(file))) for file in files}
    # Hashing 40 MB for every plan would be the slowest step of a run that changes nothing.
    hashes = {str(file): f"{distribution.version} {file.hash.value if file.hash else ''}" for file in files}
    return Context("rattler", located, hashes)


def _lock_key(image: Image) -> str:
    rows = [deb.to_dict() for deb in debs_of(image)]
    packages = explicit_packages(image.environment) if image.environment else {}
    return _sha256(json.dumps([rows, packages], sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
