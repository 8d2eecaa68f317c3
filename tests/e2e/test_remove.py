"""Removing the deployment of test_deploy.py."""

from __future__ import annotations

import pytest

from slipway.paths import ROOT
from tests.e2e.machine import engine_answers, last_report, nox, snapshot


@pytest.mark.usefixtures("deployed")
def test_destroy_leaves_the_machine_as_it_was(before: dict[str, list[str]]) -> None:
    """`nox -s destroy` removes containers, volumes, networks and images of the deployment; a second run nothing."""
    ran_before = bool(before["networks"])
    assert nox("-s", "destroy").status == 0
    assert engine_answers() is ran_before
    assert snapshot() == before
    assert not (ROOT / ".slipway" / "secrets" / "api-key").exists()
    assert nox("-s", "destroy").status == 0
    assert last_report("destroy")["changed"] == 0
