"""Pushing: digests are written for what the registry really holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from slipway.errors import SlipwayError
from slipway.image import push as push_module
from slipway.image.engine import Engine
from slipway.image.hierarchy import load
from slipway.image.push import push_images
from slipway.image.registry import Registry
from slipway.image.state import Record

if TYPE_CHECKING:
    from pathlib import Path

_CLIENT = """#!/bin/sh
echo "$*" >>"$0.calls"
case "$1 $2" in
"image inspect") echo '{"id": "sha256:1", "tags": ["slipway/base:latest"], "digests": [], "size": 1}'
                 echo '{"id": "sha256:2", "tags": ["slipway/service:latest"], "digests": [], "size": 1}' ;;
"push --quiet") [ ! -e "$0.full" ] || { echo 'no space left on device' >&2; exit 1; }; echo "$3" >>"$0.pushed" ;;
esac
"""


@pytest.fixture
def client(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a client whose calls are recorded, and a registry that holds what it pushed."""
    path = checkout / "docker"
    path.write_text(_CLIENT)
    path.chmod(0o755)
    Record("base", "a" * 64, "sha256:1", 1).save()
    Record("service", "b" * 64, "sha256:2", 1).save()

    class Held(Registry):
        def check(self) -> None:
            """Answer."""

        def digest(self, repository: str, reference: str) -> str | None:
            held = path.with_name("docker.pushed")
            there = held.exists() and f"{self.address}/{repository}:{reference}" in held.read_text().split()
            return f"sha256:{repository}-{reference}" if there else None

        def packed_size(self, repository: str, digest: str) -> int:
            return len(repository) + len(digest)

    monkeypatch.setattr(push_module, "Registry", Held)
    return path


def _push(client: Path) -> push_module.Result:
    engine = Engine(str(client), snapshotter=True)
    return push_images(engine, load(client.parent / "images/hierarchy.yml"), "127.0.0.1:5000")


def test_second_push_changes_nothing(client: Path) -> None:
    """Images go once; the digests file is written once and names the registry's digests."""
    first = _push(client)
    assert (first.changed, first.pushed) == (True, ["base", "service"])
    rows = yaml.safe_load((client.parent / "images/digests.yml").read_text())["images"]
    assert rows["service"]["reference"] == "127.0.0.1:5000/slipway/service@sha256:slipway/service-bbbbbbbbbbbb"
    assert "builder" not in rows
    second = _push(client)
    assert (second.changed, second.pushed) == (False, [])


def test_lost_registry_is_filled_again(client: Path) -> None:
    """The registry's answer counts, not the memory of an earlier push."""
    _push(client)
    client.with_name("docker.pushed").unlink()
    assert _push(client).pushed == ["base", "service"]


def test_full_registry_writes_no_digests(client: Path) -> None:
    """The error shows what the registry said; nothing half-done is deployable."""
    client.with_name("docker.full").touch()
    with pytest.raises(SlipwayError, match="no space left on device"):
        _push(client)
    assert not (client.parent / "images/digests.yml").exists()


def test_image_that_is_not_the_recorded_one_is_not_pushed(client: Path) -> None:
    """Somebody re-tagged or removed the image: build first."""
    Record("service", "b" * 64, "sha256:3", 1).save()
    with pytest.raises(SlipwayError, match="service is not built") as caught:
        _push(client)
    assert caught.value.run == "nox -s image"
