"""Pushing: what the registry lacks, then images/digests.yml, the only thing that deployments read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from slipway import paths
from slipway.errors import SlipwayError
from slipway.files import write_atomic
from slipway.image.build import NAMESPACE, local_tag
from slipway.image.registry import Registry
from slipway.image.state import Record, read_record
from slipway.progress import say

if TYPE_CHECKING:
    from slipway.image.engine import Engine
    from slipway.image.hierarchy import Hierarchy

_HEADER = "# Written by `nox -s push`; do not edit. Deployments use these digests and nothing else.\n"
_TAIL = 8


@dataclass
class Result:
    """What a push did.

    Attributes:
        images: Name -> reference, digest, tag and packed size (bytes).
        pushed: Names of images that were sent.
        changed: Whether anything was sent or written.
    """

    images: dict[str, dict[str, str | int]] = field(default_factory=dict)
    pushed: list[str] = field(default_factory=list)
    changed: bool = False


def push_images(engine: Engine, hierarchy: Hierarchy, address: str) -> Result:
    """Push every image that belongs in a registry and is not there, then write the digests.

    Raises:
        SlipwayError: an image is not built, or the registry does not answer or refuses.
    """
    names = [name for name in hierarchy.names if hierarchy[name].pushed]
    records = _built(engine, names)
    registry = Registry(address)
    registry.check()
    result = Result()
    for name in names:
        record = records[name]
        repository = f"{NAMESPACE}/{name}"
        row = record.pushed.get(address)
        if row is None or registry.digest(repository, record.tag) != row["digest"]:
            row = _push_one(engine, registry, record, repository)
            record.pushed[address] = row
            record.save()
            result.pushed.append(name)
        result.images[name] = row
    content = _HEADER + yaml.safe_dump({"images": result.images}, sort_keys=True)
    result.changed = write_atomic(paths.IMAGES / "digests.yml", content) or bool(result.pushed)
    return result


def _built(engine: Engine, names: list[str]) -> dict[str, Record]:
    there = engine.images([local_tag(name) for name in names])
    records: dict[str, Record] = {}
    for name in names:
        record = read_record(name)
        seen = there.get(local_tag(name), {}).get("id", "no image")
        if record is None or seen != record.identity:
            raise SlipwayError(
                f"image {name} is not built",
                seen=f"{local_tag(name)}: {seen}",
                rule=record.identity if record else "images are built before they are pushed",
                run="nox -s image",
            )
        records[name] = record
    return records


def _push_one(engine: Engine, registry: Registry, record: Record, repository: str) -> dict[str, str | int]:
    target = f"{registry.address}/{repository}:{record.tag}"
    say(f"push {record.name}: to {registry.address}")
    engine.run("tag", local_tag(record.name), target)
    answer = engine.run("push", "--quiet", target)
    digest = registry.digest(repository, record.tag) if answer.returncode == 0 else None
    if digest is None:
        lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
        raise SlipwayError(
            f"image {record.name} could not be pushed to {registry.address}",
            seen="\n".join(lines[-_TAIL:]) or "the registry does not hold it after the push",
            rule="the registry takes the image and has room for it; what arrived stays, so a second try resumes",
            run="docker logs slipway-registry; df -h; nox -s push",
        )
    return {
        "reference": f"{registry.address}/{repository}@{digest}",
        "digest": digest,
        "tag": record.tag,
        "size": registry.packed_size(repository, digest),
    }
