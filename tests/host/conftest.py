"""Fixtures of the host checks: the machine, its engine and what the inventory asked for."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import testinfra

if TYPE_CHECKING:
    from collections.abc import Callable

Settings = dict[str, Any]


@pytest.fixture(scope="session")
def settings() -> Settings:
    """What `playbooks/verify.yml` hands over from the inventory."""
    text = os.environ.get("SLIPWAY_INVENTORY_SETTINGS")
    if not text:
        pytest.exit("SLIPWAY_INVENTORY_SETTINGS is not set; run: nox -s verify", returncode=2)
    loaded: Settings = json.loads(text)
    return loaded


@pytest.fixture(scope="session")
def host() -> testinfra.host.Host:
    """The machine that the deployment runs on, as root."""
    return testinfra.get_host("local://", sudo=bool(os.environ.get("SLIPWAY_SUDO")))


@pytest.fixture(scope="session")
def docker(host: testinfra.host.Host) -> Callable[..., Any]:
    """Call the engine's client and return its JSON answer, one value per line of output."""
    client = os.environ.get("SLIPWAY_DOCKER", "/usr/bin/docker")

    def call(command: str) -> Any:  # noqa: ANN401 - JSON
        done = host.run(f"{client} {command}")
        assert done.rc == 0, f"{command}: {done.stderr}"
        text = done.stdout.strip()
        return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]

    return call


@pytest.fixture(scope="session")
def tasks(docker: Callable[..., Any], settings: Settings) -> list[dict[str, Any]]:
    """Containers of the token service that are to run; ones that finish their last streams are not among them."""
    service = f"{settings['namespace']}_token-service"
    rows = docker(f"service ps --filter desired-state=running --format '{{{{json .ID}}}}' {service}")
    states = docker(f"inspect {' '.join(rows)}") if rows else []
    found = [state["Status"]["ContainerStatus"]["ContainerID"] for state in states]
    assert found, "no container of the token service runs"
    inspected: list[dict[str, Any]] = docker(f"inspect {' '.join(found)}")
    return inspected


@pytest.fixture(scope="session")
def platform_containers(docker: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """Registry and channel containers by name."""
    inspected = docker("inspect slipway-registry slipway-channel")
    return {item["Name"].lstrip("/"): item for item in inspected}
