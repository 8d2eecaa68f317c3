"""What the containers of a deployed host may and may not do."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import httpx

from slipway.flow.service import API_KEY_FILE

if TYPE_CHECKING:
    import testinfra

CLIENT = os.environ.get("SLIPWAY_DOCKER", "/usr/bin/docker")
"""The engine's client that `playbooks/verify.yml` names."""


def test_every_replica_runs_and_is_healthy(tasks: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """As many containers as the inventory asks for run, each passing its health check."""
    assert len(tasks) == settings["replicas"]
    assert {task["State"]["Health"]["Status"] for task in tasks} == {"healthy"}


def test_token_service_is_confined(tasks: list[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Read-only root, uid 1000, no capability, bounded memory and logs; models and keys mounted read-only."""
    folders = {f"/models/{name}" for name in settings["models"]} | {"/run/keys"}
    for task in tasks:
        limits = task["HostConfig"]
        assert limits["ReadonlyRootfs"] is True
        assert task["Config"]["User"] == "1000:1000"
        assert limits["CapDrop"] == ["ALL"]
        assert limits["Memory"] > 0
        assert limits["LogConfig"]["Type"] == "json-file"
        assert limits["LogConfig"]["Config"]["max-size"]
        bound = {mount["Destination"]: mount["RW"] for mount in task["Mounts"] if mount["Type"] == "bind"}
        assert bound == dict.fromkeys(folders, False)


def test_token_service_cannot_write_outside_its_scratch_space(
    host: testinfra.host.Host, tasks: list[dict[str, Any]]
) -> None:
    """Writing into the image fails inside the running container; /tmp takes files."""
    name = tasks[0]["Id"]
    assert host.run(f"{CLIENT} exec {name} python -c \"open('/opt/slipway/x', 'w')\"").rc != 0
    assert (
        host.run(f"{CLIENT} exec {name} python -c \"open('/tmp/x', 'w'); __import__('os').remove('/tmp/x')\"").rc == 0
    )


def test_first_process_is_a_reaper(host: testinfra.host.Host, tasks: list[dict[str, Any]]) -> None:
    """PID 1 forwards signals and reaps: tini, not a shell."""
    done = host.run(f"{CLIENT} exec {tasks[0]['Id']} python -c \"print(open('/proc/1/comm').read())\"")
    assert done.stdout.strip() == "tini"


def test_no_key_is_on_the_host(host: testinfra.host.Host, tasks: list[dict[str, Any]]) -> None:
    """Tasks see checksums of keys, which the service's user alone can read; neither they nor `inspect` show a key."""
    key = API_KEY_FILE.read_text(encoding="utf-8").strip()
    for task in tasks:
        assert key not in json.dumps(task)
        text = host.run(f"{CLIENT} exec {task['Id']} cat /run/keys/api-keys").stdout
        assert f"default sha256:{hashlib.sha256(key.encode()).hexdigest()}" in text
        assert key not in text
    assert host.file("/var/lib/slipway/keys/api-keys").mode == 0o400
    written = host.run("cat /var/lib/slipway/keys/* /var/lib/slipway/stack/*")
    assert written.rc == 0
    assert key not in written.stdout


def test_registry_and_channel_listen_on_loopback_only(
    platform_containers: dict[str, dict[str, Any]], settings: dict[str, Any]
) -> None:
    """Registry and channel are bound to 127.0.0.1 and answer there."""
    for item in platform_containers.values():
        addresses = {entry["HostIp"] for ports in item["HostConfig"]["PortBindings"].values() for entry in ports}
        assert addresses == {"127.0.0.1"}
    registry = httpx.get(f"http://127.0.0.1:{settings['registry_port']}/v2/", trust_env=False)
    assert registry.status_code == 200
    index = httpx.get(f"http://127.0.0.1:{settings['channel_port']}/slipway/noarch/repodata.json", trust_env=False)
    assert index.status_code == 200
    assert index.json()["info"]["subdir"] == "noarch"
