"""Questions that several tests ask of a throw-away host."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host


@pytest.fixture
def docker_info(host: Host) -> dict[str, Any]:
    """What the host's engine says about itself."""
    answer: dict[str, Any] = json.loads(host.check_output("/usr/bin/docker info --format '{{json .}}'"))
    return answer


@pytest.fixture
def versions(host: Host) -> dict[str, str]:
    """Installed packages and their versions."""
    rows = host.check_output("dpkg-query --show --showformat '${binary:Package} ${Version}\\n'").splitlines()
    return dict(row.replace(":amd64 ", " ").split(" ", 1) for row in rows)


@pytest.fixture
def debian(host: Host) -> str:
    """The host's Debian release, `12` or `13`."""
    version: str = host.check_output('. /etc/os-release && printf %s "$VERSION_ID"')
    return version


@pytest.fixture
def record(host: Host) -> dict[str, Any]:
    """What provisioning recorded about the engine."""
    content: dict[str, Any] = json.loads(host.file("/var/lib/slipway/engine.json").content_string)
    return content


@pytest.fixture
def processes(host: Host) -> Callable[[str], list[str]]:
    """Find the process ids that run under a name and are not zombies; the host needs no `ps`."""

    def find(name: str) -> list[str]:
        stats = host.run("cat /proc/[0-9]*/stat").stdout.splitlines()
        rows = [re.fullmatch(r"(\d+) \((.*)\) (\S) .*", line) for line in stats]
        return [row[1] for row in rows if row and row[2] == name and row[3] != "Z"]

    return find
