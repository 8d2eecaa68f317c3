"""`slipway stack settle NAME`: wait for a deployment, then clear secrets and configurations nothing uses."""

from __future__ import annotations

import json

import click
import docker
from docker.errors import APIError, DockerException

from slipway.errors import SlipwayError
from slipway.options import json_option
from slipway.progress import say
from slipway.stack.remove import remove_all
from slipway.stack.settle import STACK_LABEL, settle


def _connect() -> docker.DockerClient:
    """Connect to the engine that DOCKER_HOST or the default socket names."""
    try:
        return docker.from_env()
    except DockerException as error:
        raise SlipwayError(
            "No container engine answers.",
            seen=str(error),
            rule="the deployment is sent to a running Docker Engine",
            run="nox -s provision",
        ) from error


def _remove_unused(client: docker.DockerClient, stack: str) -> list[str]:
    """Remove the stack's secrets and configurations that no service refers to; return their names."""
    removed = []
    filters = {"label": f"{STACK_LABEL}={stack}"}
    secrets, configs = client.api.secrets(filters=filters), client.api.configs(filters=filters)
    for item, remove in [
        *((item, client.api.remove_secret) for item in secrets),
        *((item, client.api.remove_config) for item in configs),
    ]:
        try:
            remove(item["ID"])
        except APIError as error:
            # The engine refuses to remove what a service uses, its previous specification included.
            if error.status_code != 400:  # noqa: PLR2004 - HTTP "bad request": in use
                raise
        else:
            removed.append(item["Spec"]["Name"])
    return removed


@click.group()
def command() -> None:
    """Watch a deployed stack."""


@command.command("settle")
@click.argument("name")
@click.option("--release", required=True, help="Wanted value of the services' release label.")
@click.option("--timeout", type=float, default=240, show_default=True, help="Seconds to wait.")
@click.option("--url", default="", help="Readiness address behind the load balancer.")
@json_option
def settle_command(name: str, release: str, timeout: float, url: str, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Wait until every service of stack NAME runs its release."""
    client = _connect()
    settle(client, name, release, timeout, url)
    removed = _remove_unused(client, name)
    if as_json:
        click.echo(json.dumps({"changed": bool(removed), "removed": removed}))
    else:
        click.echo(f"{name} runs release {release}")


@command.command("remove")
@click.argument("name")
@click.option("--timeout", type=float, default=120, show_default=True, help="Seconds for tasks to end.")
@json_option
def remove_command(name: str, timeout: float, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Remove stack NAME and everything else that carries Slipway's label from this engine."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException:
        removed: list[str] = []
        say("no engine answers: nothing runs, so nothing is removed from it")
    else:
        removed = remove_all(client, name, timeout)
        for line in removed:
            say(f"removed {line}")
    click.echo(json.dumps({"changed": bool(removed), "removed": removed}) if as_json else f"{len(removed)} removed")
