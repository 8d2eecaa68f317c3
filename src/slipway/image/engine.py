"""The container engine: find a client that can build, and ask it what is there."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import SlipwayError

_INSPECT = '{"id": {{json .Id}}, "tags": {{json .RepoTags}}, "digests": {{json .RepoDigests}}, "size": {{json .Size}}}'


@dataclass(frozen=True)
class Engine:
    """A Docker client with buildx and the engine it speaks to.

    Attributes:
        client: Path of the client program.
        snapshotter: Whether images live in containerd's store. There an image is kept as it will be pushed, so its
            digest is known before any push and compression can be chosen; the classic store packs layers when pushing.
    """

    client: str
    snapshotter: bool

    def run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the client and return what it said, whatever its exit status."""
        return _run(self.client, *words, env=env)

    def images(self, references: list[str]) -> dict[str, dict[str, Any]]:
        """Return id, tags, digests and size (bytes) of those of `references` that exist."""
        if not references:
            return {}
        answer = self.run("image", "inspect", "--format", _INSPECT, *references)
        rows = [json.loads(line) for line in answer.stdout.splitlines() if line]
        by_name = {tag: row for row in rows for tag in [*(row["tags"] or []), row["id"]]}
        return {reference: by_name[reference] for reference in references if reference in by_name}


def find_engine(path: str | None = None) -> Engine:
    """Return the first client on PATH that has buildx, with its engine.

    SLIPWAY_DOCKER names a client that is tried first. A client without buildx may shadow a complete one.

    Raises:
        SlipwayError: no client has buildx, or the engine does not answer.
    """
    tried: list[str] = []
    for client in _candidates(path if path is not None else os.environ.get("PATH", "")):
        answer = _run(client, "buildx", "version")
        if answer.returncode == 0:
            return Engine(client=client, snapshotter=_has_snapshotter(client))
        tried.append(f"{client}: {(answer.stderr.strip() or answer.stdout.strip()).splitlines()[0][:120]}")
    raise SlipwayError(
        "no Docker client with buildx was found",
        seen="; ".join(tried) or "no program `docker` on PATH",
        rule="images are built by BuildKit through `docker buildx` (Debian package docker-buildx)",
        run="nox -s provision",
    )


def _candidates(path: str) -> list[str]:
    folders = [*path.split(os.pathsep), "/usr/bin", "/usr/local/bin"]
    found = [os.environ.get("SLIPWAY_DOCKER", ""), *(str(Path(folder) / "docker") for folder in folders if folder)]
    return [name for name in dict.fromkeys(found) if name and os.access(name, os.X_OK)]


def _has_snapshotter(client: str) -> bool:
    answer = _run(client, "info", "--format", "{{json .DriverStatus}}|{{.ServerVersion}}")
    status, _, version = answer.stdout.strip().rpartition("|")
    if answer.returncode != 0 or not version:
        raise SlipwayError(
            "the container engine does not answer",
            seen=(answer.stderr.strip() or "no server version").splitlines()[-1],
            rule="dockerd must run and its socket be readable by this user",
            run="nox -s provision",
        )
    return is_containerd_store(status)


def is_containerd_store(driver_status: str) -> bool:
    """Tell containerd's image store from the classic one by `docker info`'s driver status (JSON list of pairs)."""
    try:
        pairs = json.loads(driver_status or "null") or []
    except json.JSONDecodeError:
        return False
    return any(str(value).startswith("io.containerd.snapshotter") for _, value in pairs)


def _run(client: str, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [client, *words], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
