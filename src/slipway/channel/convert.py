"""Convert upstream files to `.conda` packages, several at a time."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.channel.artefact import Artefact, Content, Recipe
from slipway.channel.conda_file import write_conda
from slipway.channel.cpython import convert_cpython
from slipway.channel.debian import convert_debs
from slipway.channel.wheel import convert_wheel
from slipway.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
        recipe: What to convert.
        paths: The upstream files, in the recipe's order.
        sha256: Expected SHA-256 of the result; empty when it is not known yet.
    """

    recipe: Recipe
    paths: tuple[Path, ...]
    sha256: str = ""


def convert(job: Job, folder: Path) -> tuple[Path, Artefact]:
    """Convert into a new file in `folder`.

    Raises:
        SlipwayError: an upstream file is not what its conversion expects.
    """
    recipe = job.recipe
    content: Content
    if recipe.kind == "wheel":
        content = convert_wheel(recipe, job.paths[0])
    elif recipe.convert == "cpython":
        content = convert_cpython(recipe, list(job.paths))
    else:
        content = convert_debs(recipe, list(job.paths))
    target = folder / recipe.file
    write_conda(recipe, content, target)
    return target, Artefact(recipe, sha256_file(target), target.stat().st_size)


def convert_all(jobs: list[Job], channel: Path, on_done: Callable[[Artefact], None]) -> list[Artefact]:
    """Convert `jobs`, the largest first, on all processors, into `channel`'s subfolders.

    A package appears in the channel complete or not at all; one that differs from its job's `sha256` does not appear.

    Raises:
        SlipwayError: an upstream file is not what its conversion expects.
    """
    if not jobs:
        return []
    channel.mkdir(parents=True, exist_ok=True)
    artefacts = []
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=channel) as name:
        order = sorted(jobs, key=lambda job: -sum(path.stat().st_size for path in job.paths))
        workers = min(len(order), os.cpu_count() or 1)
        with ProcessPoolExecutor(workers) as pool:
            futures = {pool.submit(convert, job, Path(name)): job for job in order}
            for future in as_completed(futures):
                path, artefact = future.result()
                expected = futures[future].sha256
                if expected in {"", artefact.sha256}:
                    target = channel / artefact.path
                    target.parent.mkdir(exist_ok=True)
                    path.replace(target)
                artefacts.append(artefact)
                on_done(artefact)
    return artefacts
