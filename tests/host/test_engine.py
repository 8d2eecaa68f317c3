"""What the engine and the Swarm of a deployed host look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from slipway.paths import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable


def test_engine_answers_as_swarm_manager(docker: Callable[..., Any]) -> None:
    """The engine is an active manager of a healthy Swarm."""
    (info,) = docker("info --format '{{json .Swarm}}'")
    assert info["LocalNodeState"] == "active"
    assert info["ControlAvailable"] is True


def test_services_run_the_digests_that_were_pushed(docker: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Every service of the stack runs exactly the reference in images/digests.yml."""
    wanted = yaml.safe_load((IMAGES / "digests.yml").read_text(encoding="utf-8"))["images"]
    names = ("token-service", "load-balancer")
    inspected = docker("service inspect " + " ".join(f"{settings['namespace']}_{name}" for name in names))
    running = {item["Spec"]["Name"]: item["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] for item in inspected}
    assert running == {f"{settings['namespace']}_{name}": wanted[name]["reference"] for name in names}
    assert all("@sha256:" in reference for reference in running.values())


def test_engine_holds_no_secret_of_the_service(docker: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Keys reach the tasks as checksums in a folder; the Swarm keeps none."""
    (service,) = docker(f"service inspect {settings['namespace']}_token-service")
    assert not service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Secrets")


def test_update_replaces_tasks_without_a_gap(docker: Callable[..., Any], settings: dict[str, Any]) -> None:
    """The token service starts a new task before it stops the old one, and rolls back by itself."""
    (service,) = docker(f"service inspect {settings['namespace']}_token-service")
    assert service["Spec"]["UpdateConfig"]["Order"] == "start-first"
    assert service["Spec"]["UpdateConfig"]["FailureAction"] == "rollback"
    assert service["Spec"]["EndpointSpec"]["Mode"] == "dnsrr"
