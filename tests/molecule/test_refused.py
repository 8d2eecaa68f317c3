"""Hosts that were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host


def test_nothing_was_recorded_or_configured(host: Host) -> None:
    """A refusal comes before the first change."""
    for path in (
        "/var/lib/slipway",
        "/etc/docker/daemon.json",
        "/etc/apt/sources.list.d/slipway-engine.sources",
        "/etc/apt/preferences.d/slipway-engine",
        "/usr/sbin/policy-rc.d",
    ):
        assert not host.file(path).exists, path


def test_no_engine_was_started(processes: Callable[[str], list[str]]) -> None:
    """A host without a running engine still has none."""
    assert processes("dockerd") == []
