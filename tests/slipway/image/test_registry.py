"""Talking to a registry over HTTP."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from slipway.errors import SlipwayError
from slipway.image.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Handler(BaseHTTPRequestHandler):
    """Answers as a registry that holds `slipway/x:1` and breaks on `slipway/x:broken`."""

    def do_GET(self) -> None:
        body = b'{"config": {"size": 5}, "layers": [{"size": 7}, {"size": 11}]}' if "manifests" in self.path else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        status = {"1": 200, "broken": 500}.get(self.path.rpartition("/")[2], 404)
        self.send_response(status)
        self.send_header("Docker-Content-Digest", "sha256:abc")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    """Yield a registry on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Registry(f"127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_digest_of_a_tag(registry: Registry) -> None:
    """A tag that is there has a digest, another one none."""
    assert registry.digest("slipway/x", "1") == "sha256:abc"
    assert registry.digest("slipway/x", "2") is None


def test_packed_size_counts_configuration_and_layers(registry: Registry) -> None:
    """What a node without any layer downloads."""
    assert registry.packed_size("slipway/x", "sha256:abc") == 23


def test_broken_registry_is_not_taken_for_an_empty_one(registry: Registry) -> None:
    """A server error stops the push."""
    with pytest.raises(SlipwayError, match="500"):
        registry.digest("slipway/x", "broken")


def test_unreachable_registry_is_reported() -> None:
    """Nobody listens on port 1."""
    with pytest.raises(SlipwayError, match="does not answer") as caught:
        Registry("127.0.0.1:1").check()
    assert "refused" in caught.value.seen
    assert "nox -s push" in caught.value.run


def test_only_loopback_is_asked_in_plain_http() -> None:
    """A registry elsewhere is spoken to over TLS."""
    assert Registry("127.0.0.1:5000").url == "http://127.0.0.1:5000/v2/"
    assert Registry("registry.example:5000").url == "https://registry.example:5000/v2/"
