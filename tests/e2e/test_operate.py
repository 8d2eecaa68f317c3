"""Operating the deployment of test_deploy.py: live tests, keys, chat, models. File names give the order."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from slipway.paths import ROOT, SECRETS
from tests.e2e.load import Load
from tests.e2e.machine import URL, api_key, last_report, models, nox, served, statuses, tasks, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.machine import Outcome


def test_every_live_test_passes(deployed: Outcome) -> None:
    """Those too that fill the service and leave it in the middle of answers, which verifying leaves out otherwise."""
    del deployed
    assert nox("-s", "verify", "--", "-e", "slipway_verify_load=true").status == 0


@pytest.mark.usefixtures("deployed")
def test_keys_come_and_go_without_a_restart() -> None:
    """A key that was added opens the service, one that was revoked does not; tasks and streams are not touched."""
    before = tasks()
    with Load(URL, api_key()) as load:
        added = nox("-s", "keys", "--", "add", "e2e")
        key = (SECRETS / "e2e.key").read_text(encoding="utf-8").strip()
        assert added.status == 0
        assert key not in added.output
        wait_for(lambda: statuses(key) == {200}, 5, "the new key is taken by every worker")
        assert nox("-s", "keys", "--", "revoke", "e2e").status == 0
        wait_for(lambda: statuses(key) == {401}, 5, "the revoked key is refused by every worker")
        assert statuses(api_key()) == {200}
    assert load.failures == []
    assert tasks() == before


@pytest.mark.usefixtures("deployed")
def test_chat_answers_lines_from_a_pipe() -> None:
    """`nox -s chat` finds address, key and model of the deployment by itself."""
    words = [sys.executable, "-m", "nox", "-s", "chat"]
    done = subprocess.run(
        words, cwd=ROOT, input="Tell me about import.\n/model\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("* demo\n")
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.usefixtures("deployed")
def test_second_model_joins_and_leaves_without_a_cut_stream(own_model: Path) -> None:
    """Rolling a model out beside the old one: both answer by name, then one is taken away, while streams go on."""
    both = models(demo=ROOT / "models" / "demo", mine=own_model)
    with Load(URL, api_key(), clients=2) as load:
        assert nox("-s", "deploy", "--", "-e", both).status == 0
        assert served(URL) == ["demo", "mine"]
        assert statuses(api_key(), "/v1/models/mine") == {200}
        assert nox("-s", "deploy").status == 0
        assert served(URL) == ["demo"]
    assert load.done > 0
    assert load.failures == []


@pytest.mark.usefixtures("deployed")
def test_port_and_model_are_settings(own_model: Path) -> None:
    """Another port and another model directory are one variable each; the printed line uses both."""
    port = '{"slipway_service_port": 8100}'
    assert nox("-s", "deploy", "--", "-e", port, "-e", models(mine=own_model)).status == 0
    assert last_report()["url"] == "http://127.0.0.1:8100"
    assert served("http://127.0.0.1:8100") == ["mine"]
    assert '"model": "mine"' in last_report()["curl"]
