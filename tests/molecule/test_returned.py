"""Engines that someone else set up, after removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host


def test_host_is_as_before(host: Host) -> None:
    """Engine, swarm membership, labels and networks are exactly those of before, and no record is left."""
    assert host.check_output("/srv/snapshot.sh") == host.file("/srv/before").content_string.rstrip("\n")
