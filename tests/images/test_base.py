"""What every image keeps from `base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipway.image.build import local_tag
from slipway.image.locks import debs_of

if TYPE_CHECKING:
    from slipway.image.engine import Engine
    from slipway.image.hierarchy import Hierarchy
    from tests.images.conftest import Container


def test_is_bookworm(container: Container) -> None:
    """An image comes from Debian bookworm, whatever the builder runs."""
    assert "VERSION_CODENAME=bookworm" in container.exec("cat", "/etc/os-release").stdout


def test_holds_exactly_the_locked_packages(container: Container, hierarchy: Hierarchy, image: str) -> None:
    """The database of dpkg lists what the lock lists for the image and its parents, by version, all configured."""
    listed = container.exec("dpkg-query", "-W", "-f", "${db:Status-Abbrev}|${Package}|${Version}\n").stdout.split("\n")
    locked = [deb for name in [image, *hierarchy.ancestors(image)] for deb in debs_of(hierarchy[name])]
    assert sorted(line for line in listed if line) == sorted({f"ii |{deb.name}|{deb.version}" for deb in locked})


@pytest.mark.parametrize("program", ["apt-get", "conda", "mamba", "micromamba", "pip", "gcc", "cc", "make", "curl"])
def test_has_no_program(container: Container, program: str) -> None:
    """Nothing that installs, compiles or downloads is in an image."""
    assert container.exec("sh", "-c", f"command -v {program}").stdout == ""


def test_has_no_caches_or_documentation(container: Container) -> None:
    """Package lists, logs, manual pages and headers are gone; licences are there."""
    script = "find /var/cache/apt /var/lib/apt /var/log /usr/share/man /usr/include -type f 2>/dev/null"
    assert container.exec("sh", "-c", script).stdout == ""
    assert container.exec("test", "-s", "/usr/share/doc/libc6/copyright").returncode == 0


def test_knows_nothing_of_the_builder(container: Container) -> None:
    """No machine id and no time of the build are left behind."""
    assert container.exec("test", "-s", "/etc/machine-id").returncode != 0
    engine = ["/proc*", "/sys*", "/dev*", "/etc*", "/.dockerenv", "/", "/tmp*"]  # noqa: S108 - inside the container
    rules = " ".join(f"-not -path '{path}'" for path in engine)
    newer = container.exec("sh", "-c", f"find / -xdev -newermt 2026-01-02 {rules} 2>/dev/null")
    assert newer.stdout == ""


def test_carries_labels(engine: Engine, image: str) -> None:
    """`destroy` finds an image by its label, an auditor its lock."""
    answer = engine.run("image", "inspect", "--format", "{{json .Config.Labels}}", local_tag(image)).stdout
    assert '"com.slipway.managed":"true"' in answer
    assert '"com.slipway.lock":"sha256:' in answer
