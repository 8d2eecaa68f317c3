"""`slipway verify`: testinfra against host and containers, then the live HTTP tests, with progress and a report."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from slipway.errors import SlipwayError
from slipway.flow.service import API_KEY_FILE, deployed_service
from slipway.paths import REPORTS, ROOT
from slipway.progress import say

_LOAD_TESTS = "tests/live/test_vanishing.py"
"""Tests that fill every place of the service: other clients get 429 meanwhile."""


def _environment() -> dict[str, str]:
    """Return the environment of the tests: base URL and API key, unless the caller has set them."""
    env = dict(os.environ)
    service = deployed_service()
    if service and "SLIPWAY_BASE_URL" not in env:
        env |= {"SLIPWAY_BASE_URL": service.url, "SLIPWAY_MODEL": service.model}
    if "SLIPWAY_API_KEY" not in env and API_KEY_FILE.is_file():
        env["SLIPWAY_API_KEY"] = API_KEY_FILE.read_text(encoding="utf-8").strip()
    return env


@click.command()
@click.option("--load", is_flag=True, help="Also fill the service and leave it in the middle of answers.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def command(pytest_arguments: tuple[str, ...], *, load: bool) -> None:
    """Check the deployed service; the result lands in reports/verify.xml."""
    REPORTS.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "pytest", "tests/host", "tests/live", "-q", "-p", "no:cacheprovider"]
    if not load:
        words.append(f"--ignore={_LOAD_TESTS}")
    report = REPORTS / "verify.xml"
    with subprocess.Popen(
        [*words, f"--junitxml={report}", *pytest_arguments],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            say(line)
    if process.returncode != 0:
        raise SlipwayError(
            "The deployment does not pass its checks.",
            seen=f"pytest ended with status {process.returncode}; reports/verify.xml names what failed",
            rule="every check of tests/host and tests/live passes",
            run="mend what they name, then: nox -s verify",
        )
