"""The Ansible module that refuses a port somebody else listens on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from slipway.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULE = ROOT / "plugins" / "modules" / "slipway_port.py"


def _call(**arguments: object) -> dict[str, Any]:
    """Run the module as Ansible does and return its answer."""
    text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    done = subprocess.run([sys.executable, str(_MODULE)], input=text, capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def listener() -> Iterator[int]:
    """A port that this process listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_free_port_passes(listener: int) -> None:
    """A port nobody listens on is no failure; the listener's port after it has closed serves as example."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        free = server.getsockname()[1]
    assert free != listener
    assert _call(port=free, setting="slipway_service_port") == {
        "changed": False,
        "holder": None,
        "invocation": {"module_args": {"port": free, "setting": "slipway_service_port", "client": None}},
    }


def test_taken_port_names_holder_setting_and_command(listener: int) -> None:
    """The message has the process, the rule, the variable and what to run."""
    answer = _call(port=listener, setting="slipway_service_port", client="/nonexistent/docker")
    assert answer["failed"] is True
    assert f"Port {listener} is taken" in answer["msg"]
    assert f"process {os.getpid()} (" in answer["msg"]
    assert "-e slipway_service_port=PORT" in answer["msg"]


@pytest.mark.parametrize("port", [0, 65536])
def test_number_that_is_no_port_is_refused(port: int) -> None:
    """The value seen and the range are in the message."""
    answer = _call(port=port, setting="slipway_registry_port")
    assert answer["failed"] is True
    assert f"seen: {port}" in answer["msg"]
    assert "1 to 65535" in answer["msg"]
