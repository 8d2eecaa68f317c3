"""A provisioned host: the engine, its configuration and the swarm of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

_ENGINE_PACKAGES = ["docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd"]
_ROOTFS = (
    "tar --create --dereference --directory=/ bin/sh bin/cat lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6"
)
_RUN = f"{_ROOTFS} | docker import - slipway-check >/dev/null && docker run --rm"


def test_engine_answers_with_the_containerd_image_store(docker_info: dict[str, Any]) -> None:
    """Images keep their digests as they were built."""
    assert ["driver-type", "io.containerd.snapshotter.v1"] in docker_info["DriverStatus"]


def test_client_has_buildx(host: Host) -> None:
    """Image builds go through buildx."""
    assert host.run("/usr/bin/docker buildx version").rc == 0


def test_container_logs_are_bounded(host: Host, docker_info: dict[str, Any]) -> None:
    """No container can fill the disk with its log, and none can be started without that limit."""
    assert docker_info["LoggingDriver"] == "json-file"
    name = host.check_output(f"{_ROOTFS} | docker import - slipway-check >/dev/null && docker create slipway-check sh")
    limits = host.check_output(
        f"docker inspect {name} --format '{{{{json .HostConfig.LogConfig}}}}' && docker rm {name}"
    )
    assert json.loads(limits.splitlines()[0])["Config"] == {"max-file": "3", "max-size": "10m"}


def test_container_runs_without_network(host: Host) -> None:
    """A real container starts from an imported root file system, hermetically."""
    ran = host.run(f"{_RUN} --network=none slipway-check /bin/sh -c 'echo works; cat /proc/net/route'")
    assert ran.stdout.startswith("works"), ran.stderr
    assert "00000000" not in ran.stdout, "a container without network has a default route"


def test_container_reaches_the_network_by_nat(host: Host) -> None:
    """On the default bridge a container has a default route, and the host translates its addresses."""
    ran = host.run(f"{_RUN} slipway-check /bin/cat /proc/net/route")
    assert "eth0\t00000000" in ran.stdout, ran.stderr
    assert "MASQUERADE" in host.check_output("/usr/sbin/iptables --table nat --list POSTROUTING")


def test_engine_comes_from_the_expected_suite(versions: dict[str, str]) -> None:
    """Debian 12 gets trixie's engine too: the same version everywhere."""
    for package in _ENGINE_PACKAGES:
        assert package in versions
    assert versions["docker.io"].startswith("26.1.5")
    assert versions["containerd"].startswith("1.7.24")


def test_rest_of_the_host_stays_its_own(host: Host, versions: dict[str, str], debian: str) -> None:
    """Nothing but the engine's packages comes from another suite, and no upgrade is pending that would bring it."""
    libc = {"12": "2.36-", "13": "2.41-"}[debian]
    assert versions["libc6"].startswith(libc)
    foreign = [
        line.split("/")[0]
        for line in host.check_output("apt list --installed 2>/dev/null").splitlines()
        if debian == "12" and "deb13" in line
    ]
    assert set(foreign) <= set(_ENGINE_PACKAGES)
    upgrade = host.check_output("apt-get --simulate dist-upgrade")
    assert [line for line in upgrade.splitlines() if line.startswith("Inst ")] == []


def test_swarm_is_a_manager_on_loopback(docker_info: dict[str, Any]) -> None:
    """A Swarm of one that nobody outside can join."""
    swarm = docker_info["Swarm"]
    assert (swarm["LocalNodeState"], swarm["ControlAvailable"], swarm["NodeAddr"]) == ("active", True, "127.0.0.1")
    assert [manager["Addr"] for manager in swarm["RemoteManagers"]] == ["127.0.0.1:2377"]


def test_swarm_port_is_closed_to_others(host: Host) -> None:
    """The joining port listens on loopback only."""
    port = 2377
    listening = [
        line.split()[1] for line in host.check_output("cat /proc/net/tcp /proc/net/tcp6").splitlines() if " 0A " in line
    ]
    assert f"0100007F:{port:04X}" in listening
    assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_node_is_in_the_cpu_pool(host: Host) -> None:
    """Placement rules find the node by its label."""
    labels = host.check_output("/usr/bin/docker node inspect self --format '{{json .Spec.Labels}}'")
    assert json.loads(labels)["com.slipway.pool"] == "cpu"


def test_record_says_what_was_done(host: Host, record: dict[str, Any]) -> None:
    """Removal reads here what it may undo."""
    init = (
        "systemd"
        if host.file("/run/systemd/system").exists
        else "sysvinit"
        if host.file("/etc/inittab").exists
        else "none"
    )
    assert record["started"] == init
    assert record["daemon_json_created"] is True
    assert not record["installing"]
    assert set(_ENGINE_PACKAGES) <= set(record["installed"])


def test_engine_starts_with_the_host(host: Host, record: dict[str, Any]) -> None:
    """An init system that is there keeps the engine."""
    if record["started"] == "none":
        pytest.skip("no init system here: `nox -s deploy` starts the daemon after a reboot")
    assert host.service("docker").is_enabled


def test_daemons_may_start_again(host: Host) -> None:
    """The ban on starting daemons ends with the installation."""
    assert not host.file("/usr/sbin/policy-rc.d").exists
