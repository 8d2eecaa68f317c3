"""A host that was given back: what provisioning did is undone, the packages are kept as downloads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host


def test_no_daemon_is_left(processes: Callable[[str], list[str]]) -> None:
    """The engine that was started is stopped, with its containerd."""
    assert processes("dockerd") == []
    assert processes("containerd") == []


def test_engine_does_not_come_back_with_the_host(host: Host) -> None:
    """An init system does not start it again at boot."""
    enabled = host.run("ls /etc/rc2.d/S*docker /etc/systemd/system/multi-user.target.wants/docker.service")
    started_at_boot = [line for line in enabled.stdout.splitlines() if "docker" in line]
    if host.file("/run/systemd/system").exists:
        assert not host.service("docker").is_enabled
        assert not host.service("containerd").is_enabled
    elif host.file("/etc/inittab").exists:
        assert started_at_boot == []


def test_configuration_is_gone(host: Host) -> None:
    """daemon.json was ours alone."""
    assert not host.file("/etc/docker/daemon.json").exists


def test_record_names_only_the_packages(host: Host) -> None:
    """The packages stay, so that the next deployment need not fetch them, and a later removal can purge them."""
    record = json.loads(host.file("/var/lib/slipway/engine.json").content_string)
    assert set(record) <= {"installed", "installing", "suite_added"}
    assert not host.file("/var/lib/slipway/swarm.json").exists


def test_networks_of_the_swarm_are_gone(host: Host) -> None:
    """No bridge of the swarm is left in the kernel."""
    assert not host.file("/sys/class/net/docker_gwbridge").exists
