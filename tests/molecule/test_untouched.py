"""Engines that someone else set up, after provisioning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host


def test_engine_is_left_alone(host: Host) -> None:
    """Configuration, packages, identity and the very process of the engine are what they were."""
    before = host.file("/srv/before").content_string
    now = host.check_output("/srv/snapshot.sh --without-swarm")
    assert before.startswith(now)


def test_nothing_is_recorded_about_the_engine(host: Host) -> None:
    """Removal finds nothing to undo."""
    assert not host.file("/var/lib/slipway/engine.json").exists


def test_swarm_is_ours_only_where_there_was_none(host: Host) -> None:
    """A foreign manager gets its label and no more; a worker gets nothing; a free engine gets a swarm of one."""
    record = host.file("/var/lib/slipway/swarm.json")
    content = json.loads(record.content_string) if record.exists else {}
    name = host.check_output("hostname")
    expected = {
        "plain": {"cluster", "networks", "labels"},
        "manager": {"labels"},
        "worker": set(),
    }
    assert set(content) == expected[name]


def test_label_reaches_the_managers(host: Host) -> None:
    """Services find nodes by pool in a foreign swarm too."""
    if host.check_output("hostname") == "worker":
        pytest.skip("a worker cannot ask for labels")
    labels = host.check_output("docker node inspect self --format '{{json .Spec.Labels}}'")
    assert json.loads(labels) == {"com.slipway.pool": "cpu"}
