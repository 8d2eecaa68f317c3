"""Wait until every service of a stack runs its release, or say which task failed and what it logged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from docker.errors import NotFound, NullResource

from slipway.errors import SlipwayError
from slipway.progress import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import docker
    from docker.models.services import Service

STACK_LABEL = "com.docker.stack.namespace"
RELEASE_LABEL = "com.slipway.release"

_POLL_SECONDS = 0.3
_FAILURES_ALLOWED = 3
"""A task may fail this often while a service starts (an address still in use, say) before waiting ends."""

_LOG_LINES = 20


@dataclass(frozen=True)
class State:
    """How one service stands: `done` when it runs its release, `broken` with the reason when it never will."""

    done: bool
    text: str
    broken: str = ""


def service_state(attributes: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], release: str) -> State:
    """Judge one service from the engine's answer.

    Args:
        attributes: The service as `GET /services/ID` returns it (Docker Engine API 1.45).
        tasks: Its tasks as `GET /tasks` returns them.
        release: The wanted value of the service's release label; a rollback brings back the previous one.
    """
    spec = attributes["Spec"]
    update = attributes.get("UpdateStatus") or {}
    phase = update.get("State", "")
    name = spec["Name"]
    if spec["Labels"].get(RELEASE_LABEL) != release:
        if phase in {"rollback_started", "updating"}:
            return State(done=False, text=f"{name}: {phase}")
        return State(done=False, text=f"{name}: {phase}", broken=update.get("Message") or "it runs another release")
    if phase in {"paused", "rollback_paused"}:
        return State(done=False, text=f"{name}: {phase}", broken=update.get("Message", phase))
    wanted = spec["Mode"]["Replicated"]["Replicas"]
    current = [task for task in tasks if task["DesiredState"] == "running" and _same_spec(task, spec)]
    running = sum(task["Status"]["State"] == "running" for task in current)
    failed = [task for task in tasks if task["Status"]["State"] in {"failed", "rejected"} and _same_spec(task, spec)]
    text = f"{name}: {running} of {wanted} running"
    if running >= wanted and phase not in {"updating", "rollback_started"}:
        return State(done=True, text=text)
    if len(failed) >= _FAILURES_ALLOWED and running < wanted:
        newest = max(failed, key=lambda task: str(task["CreatedAt"]))
        return State(done=False, text=text, broken=newest["Status"].get("Err") or newest["Status"]["State"])
    return State(done=False, text=text)


def _same_spec(task: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Tell whether a task was made from the service's present specification."""
    wanted = spec["TaskTemplate"]
    found = task["Spec"]
    return bool(
        found.get("ContainerSpec") == wanted.get("ContainerSpec")
        and found.get("ForceUpdate", 0) == wanted.get("ForceUpdate", 0)
    )


def settle(client: docker.DockerClient, stack: str, release: str, timeout: float, url: str = "") -> None:
    """Return once every service of `stack` runs `release` and `url` (if given) answers 200.

    Args:
        client: Connection to the Swarm manager's engine.
        stack: Name of the stack.
        release: Wanted release label.
        timeout: Seconds to wait at the most.
        url: Readiness address behind the load balancer.

    Raises:
        SlipwayError: an update was rolled back, tasks keep failing, or the time ran out.
    """
    deadline = time.monotonic() + timeout
    said = ""
    while True:
        services = client.services.list(filters={"label": f"{STACK_LABEL}={stack}"})
        tasks = [client.api.tasks(filters={"service": service.id}) for service in services]
        states = [service_state(one.attrs, its, release) for one, its in zip(services, tasks, strict=True)]
        for service, its, state in zip(services, tasks, states, strict=True):
            if state.broken:
                raise _failure(service, state, _log_of_newest_failure(client, its))
        answer = _answer(url) if states and all(state.done for state in states) else ""
        if answer == "200":
            return
        now = "; ".join(state.text for state in states) + (f"; {url} answers {answer}" if answer else "")
        if now != said:
            say(now)
            said = now
        if time.monotonic() > deadline:
            raise SlipwayError(
                f"The stack {stack} did not settle within {timeout:.0f} s.",
                seen=now,
                rule="every service runs the wanted release and the load balancer finds a ready task",
                run=f"docker stack ps --no-trunc {stack}; docker service logs SERVICE",
            )
        time.sleep(_POLL_SECONDS)


def _answer(url: str) -> str:
    """Return the HTTP status of `url` as text, the kind of failure, or 200 when there is no URL to ask."""
    if not url:
        return "200"
    try:
        return str(httpx.get(url, timeout=5, trust_env=False).status_code)
    except httpx.HTTPError as error:
        return type(error).__name__


def _log_of_newest_failure(client: docker.DockerClient, tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return the last lines of the task that failed last; empty when its container is on another node or gone.

    The container is asked, not the service: `docker service logs` waits for ever for a task whose container is gone.
    """
    failed = [task for task in tasks if task["Status"]["State"] in {"failed", "rejected"}]
    if not failed:
        return ""
    newest = max(failed, key=lambda task: str(task["CreatedAt"]))
    container = newest["Status"].get("ContainerStatus", {}).get("ContainerID", "")
    try:
        return client.containers.get(container).logs(tail=_LOG_LINES).decode(errors="replace").rstrip()
    except (NotFound, NullResource):
        return ""


def _failure(service: Service, state: State, log: str) -> SlipwayError:
    """Describe a service that will not come up, with the newest log lines."""
    return SlipwayError(
        f"Service {service.name} does not run the release it was given.",
        seen=f"{state.broken}\n{log}".rstrip(),
        rule="a task that exits or fails its health check is not kept; an earlier release, if any, serves on",
        run=f"docker service ps --no-trunc {service.name}; mend the cause, then: nox -s deploy",
    )
