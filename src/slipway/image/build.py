"""Building: only what changed, parents first, independent images side by side."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway import paths
from slipway.deb import Archive
from slipway.errors import SlipwayError
from slipway.files import write_atomic
from slipway.image.contexts import EPOCH, staging_root
from slipway.image.hierarchy import BUILDER, Hierarchy
from slipway.image.locks import debs_of
from slipway.image.plan import Plan, make_plans
from slipway.image.rootfs import write_rootfs
from slipway.image.state import Record, read_record
from slipway.progress import say

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.image.engine import Engine

NAMESPACE = "slipway"
_WORKERS = 3
_TAIL = 20


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        record: Its record after the run.
        changed: Whether it was built.
        seconds: Time its build took; 0 when there was nothing to do.
    """

    record: Record
    changed: bool
    seconds: float = 0.0


def local_tag(name: str, tag: str = "latest") -> str:
    """Return the name of an image in the local engine."""
    return f"{NAMESPACE}/{name}:{tag}"


def build_images(engine: Engine, hierarchy: Hierarchy, only: list[str], *, fresh: bool = False) -> dict[str, Outcome]:
    """Build the images of `only` (all when empty) and what they need, unless they are there already.

    Args:
        engine: Where to build.
        hierarchy: All images.
        only: Names of the images wanted.
        fresh: Build all of them again and without cached steps, to see whether the same digests come out.

    Raises:
        SlipwayError: an input is missing or a build failed; images finished before stay.
    """
    names = hierarchy.select(only)
    plans = make_plans(hierarchy, names)
    records = {name: read_record(name) for name in names}
    there = engine.images([local_tag(name) for name in names])
    outcomes: dict[str, Future[Outcome]] = {}

    def build(plan: Plan) -> Outcome:
        name = plan.image.name
        for need in plan.image.needs:
            outcomes[need].result()
        record, seen = records[name], there.get(local_tag(name), {})
        if not fresh and record and record.key == plan.key and record.identity == seen.get("id"):
            return Outcome(record, changed=False)
        say(f"image {name}: building")
        started = time.monotonic()
        built = _build_one(engine, plan, record, fresh=fresh)
        seconds = time.monotonic() - started
        say(f"image {name}: built in {seconds:.1f} s, {built.size / 1e6:.0f} MB")
        return Outcome(built, changed=True, seconds=seconds)

    # A worker only ever waits for images submitted before its own, so the oldest one always has a worker and proceeds.
    with ThreadPoolExecutor(_WORKERS) as pool:
        for name in names:
            outcomes[name] = pool.submit(build, plans[name])
        return {name: future.result() for name, future in outcomes.items()}


def _build_one(engine: Engine, plan: Plan, old: Record | None, *, fresh: bool) -> Record:
    name = plan.image.name
    words, folder = _stage(plan)
    parents = {"parent": plan.image.parent, **({"builder": BUILDER} if plan.image.environment else {})}
    for context, parent in parents.items():
        if parent:
            words += ["--build-context", f"{context}=docker-image://{local_tag(parent)}"]
    for label, value in _labels(plan).items():
        words += ["--label", f"{label}={value}"]
    answer = engine.run(
        *("buildx", "build", "--progress=plain", "--network=none", "--provenance=false"),
        f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}",
        f"--output=type=image,name={local_tag(name)}{_packing(engine, plan)}",
        *(["--no-cache"] if fresh else []),
        *words,
        str(folder),
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
    )
    log = paths.LOGS / f"image-{name}.log"
    write_atomic(log, answer.stderr)
    if answer.returncode != 0:
        raise SlipwayError(
            f"image {name} could not be built",
            seen=_reason(answer.stderr),
            rule=f"every step of its Dockerfile succeeds without network; the whole log is {log}",
            edit=str(paths.IMAGES / name / "Dockerfile"),
            run="nox -s image",
        )
    shutil.rmtree(staging_root() / name, ignore_errors=True)
    return _finish(engine, Record(name=name, key=plan.key, identity="", size=0), old)


def _reason(log: str) -> str:
    """Return the part of BuildKit's log that says why: what the failed step wrote, without the echoed Dockerfile."""
    rows = log.split("\n------\n")
    return "\n".join(rows[1].splitlines()[-_TAIL:]) if len(rows) > 1 else log.strip()[-2000:]


def _packing(engine: Engine, plan: Plan) -> str:
    """Choose how layers are packed.

    In containerd's store that happens now, and zstd takes a fraction of gzip's time for smaller layers; what is never
    pushed is not packed at all. OCI media types, because Docker's own have no zstd: `docker images` would leave such an
    image out. The classic store packs when pushing and takes no wishes.
    """
    if not engine.snapshotter:
        return ""
    if not plan.image.pushed:
        return ",oci-mediatypes=true,compression=uncompressed"
    return ",oci-mediatypes=true,compression=zstd,compression-level=3,force-compression=true"


def _finish(engine: Engine, fresh: Record, old: Record | None) -> Record:
    """Tag the image with its key, record it, and let go of the tag it replaces."""
    latest, tagged = local_tag(fresh.name), local_tag(fresh.name, fresh.tag)
    answer = engine.run("tag", latest, tagged)
    seen = engine.images([latest]).get(latest)
    if seen is None:
        raise SlipwayError(
            f"image {fresh.name} is not in the engine after its build", seen=answer.stderr.strip(), run="nox -s image"
        )
    fresh.identity, fresh.size = seen["id"], seen["size"]
    fresh.save()
    if old and old.tag != fresh.tag:
        # A container may still run from it; then the engine keeps the image and refuses, which is right.
        pushed = [f"{address}/{local_tag(old.name, old.tag)}" for address in old.pushed]
        for tag in [local_tag(old.name, old.tag), *pushed]:
            engine.run("image", "rm", tag)
    return fresh


def _stage(plan: Plan) -> tuple[list[str], Path]:
    """Write the build's folders; return the words that name the further ones, and the Dockerfile's own."""
    root = staging_root() / plan.image.name
    if plan.image.debs:
        files = Archive().fetch(debs_of(plan.image))
    folders = {context.name: context.stage(root / context.name) for context in plan.contexts}
    folder = folders.pop(plan.contexts[0].name)
    words: list[str] = []
    for context, place in folders.items():
        words += ["--build-context", f"{context}={place}"]
    if plan.image.kind == "rootfs":
        write_rootfs(files, folder / "rootfs.tar")
    return words, folder


def _labels(plan: Plan) -> dict[str, str]:
    return {
        "com.slipway.managed": "true",
        "com.slipway.lock": f"sha256:{plan.lock}",
        "com.slipway.key": plan.key,
        "org.opencontainers.image.title": f"{NAMESPACE}/{plan.image.name}",
        "org.opencontainers.image.created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH)),
    }
