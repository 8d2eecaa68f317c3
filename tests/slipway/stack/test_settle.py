"""When a deployed service counts as settled, still moving, or broken."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.stack.settle import RELEASE_LABEL, service_state

_TEMPLATE = {"ContainerSpec": {"Image": "registry/token-service@sha256:new"}, "ForceUpdate": 0}


def _service(release: str = "r2", update: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a service of two replicas as the engine describes it."""
    spec = {
        "Name": "slipway_token-service",
        "Labels": {RELEASE_LABEL: release},
        "Mode": {"Replicated": {"Replicas": 2}},
        "TaskTemplate": _TEMPLATE,
    }
    return {"Spec": spec, **({"UpdateStatus": update} if update else {})}


def _task(state: str, *, template: dict[str, Any] = _TEMPLATE, error: str = "") -> dict[str, Any]:
    """Return a task in `state`."""
    desired = "shutdown" if state in {"failed", "rejected"} else "running"
    return {
        "DesiredState": desired,
        "Status": {"State": state, "Err": error},
        "Spec": template,
        "CreatedAt": "2026-01-01T00:00:00Z",
    }


def test_running_replicas_settle() -> None:
    """Two running tasks of the wanted release are enough."""
    assert service_state(_service(), [_task("running"), _task("running")], "r2").done


@pytest.mark.parametrize("state", ["starting", "preparing", "pending"])
def test_task_that_is_not_yet_healthy_is_waited_for(state: str) -> None:
    """A task that has not passed its health check does not count."""
    judged = service_state(_service(), [_task("running"), _task(state)], "r2")
    assert not judged.done
    assert not judged.broken


def test_tasks_of_the_previous_release_do_not_count() -> None:
    """During a start-first update the old tasks still run; they say nothing about the new release."""
    old = {"ContainerSpec": {"Image": "registry/token-service@sha256:old"}, "ForceUpdate": 0}
    tasks = [_task("running", template=old), _task("running", template=old)]
    assert not service_state(_service(update={"State": "updating"}), tasks, "r2").done


def test_rollback_is_a_failure_with_the_engines_reason() -> None:
    """After an automatic rollback the release label is the previous one again."""
    update = {"State": "rollback_completed", "Message": "rollback completed"}
    judged = service_state(_service(release="r1", update=update), [_task("running"), _task("running")], "r2")
    assert judged.broken == "rollback completed"


def test_rollback_of_an_earlier_deployment_is_history() -> None:
    """A finished rollback of the past does not spoil the present release."""
    update = {"State": "rollback_completed", "Message": "rollback completed"}
    assert service_state(_service(update=update), [_task("running"), _task("running")], "r2").done


def test_task_that_keeps_failing_is_reported_with_its_error() -> None:
    """Three failures while starting end the wait."""
    tasks = [_task("failed", error="task: non-zero exit (1)") for _ in range(3)]
    assert service_state(_service(), tasks, "r2").broken == "task: non-zero exit (1)"
