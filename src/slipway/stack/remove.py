"""Remove what a deployment created on an engine, found by its labels, and nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound, NotFound

from slipway.errors import SlipwayError
from slipway.progress import say
from slipway.stack.settle import STACK_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import docker

MANAGED_LABEL = "com.slipway.managed=true"

_POLL_SECONDS = 0.3


def remove_all(client: docker.DockerClient, stack: str, timeout: float) -> list[str]:
    """Remove the stack, every container, volume and network with Slipway's label, and the images built by it.

    Args:
        client: Connection to the engine.
        stack: Name of the stack.
        timeout: Seconds that tasks get to finish their streams and go.

    Returns:
        What was removed, as `kind name`.

    Raises:
        SlipwayError: something was still there when the time was over.
    """
    removed = _remove_stack(client, stack, timeout) if client.info()["Swarm"].get("ControlAvailable") else []
    managed = {"label": MANAGED_LABEL}
    api = client.api
    removed += _each(
        "container", api.containers(all=True, filters=managed), lambda i: api.remove_container(i, force=True, v=True)
    )
    removed += _each("volume", (api.volumes(filters=managed) or {}).get("Volumes") or [], api.remove_volume)
    removed += _each("network", api.networks(filters=managed), api.remove_network)
    removed += _each("image", api.images(filters=managed), lambda i: api.remove_image(i, force=True))
    return removed


def _remove_stack(client: docker.DockerClient, stack: str, timeout: float) -> list[str]:
    """Remove services, wait until their containers have gone, then networks, secrets and configurations."""
    filters = {"label": f"{STACK_LABEL}={stack}"}
    api = client.api
    removed = _each("service", api.services(filters=filters), api.remove_service)
    deadline = time.monotonic() + timeout
    while left := api.containers(all=True, filters=filters):
        if time.monotonic() > deadline:
            raise SlipwayError(
                f"Containers of the stack {stack} did not stop within {timeout:.0f} s.",
                seen=", ".join(item["Names"][0] for item in left),
                rule="a container ends within its stop grace period",
                run="docker logs NAME; then: nox -s destroy",
            )
        say(f"waiting for {len(left)} containers to finish their streams")
        time.sleep(_POLL_SECONDS)
    removed += _each("network", api.networks(filters=filters), api.remove_network)
    removed += _each("secret", api.secrets(filters=filters), api.remove_secret)
    removed += _each("config", api.configs(filters=filters), api.remove_config)
    return removed


def _each(kind: str, items: Iterable[dict[str, Any]], remove: Callable[[str], object]) -> list[str]:
    """Remove every item; one that has gone meanwhile is no error."""
    names = []
    for item in items:
        identifier = item.get("Id") or item.get("ID") or item["Name"]
        try:
            remove(identifier)
        except (NotFound, ImageNotFound):
            continue
        except APIError as error:
            raise SlipwayError(
                f"The engine refuses to remove {kind} {identifier}.", seen=str(error), run="nox -s destroy"
            ) from error
        names.append(f"{kind} {_name(item, identifier)}")
    return names


def _name(item: dict[str, Any], identifier: str) -> str:
    """Return the name people know an item by."""
    spec = item.get("Spec") or {}
    listed = item.get("Names") or item.get("RepoTags") or [spec.get("Name") or item.get("Name") or identifier[:19]]
    return str(listed[0]).lstrip("/")
