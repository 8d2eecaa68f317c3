"""The list that deployed services are checked against, on a service of the tests' own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from token_service import keys

if TYPE_CHECKING:
    from tests.token_service.conftest import Start

_ROOT = Path(__file__).resolve().parents[2]


def test_live_tests_pass_on_a_guarded_service(start: Start, tmp_path: Path) -> None:
    """With an API key, two workers and nobody else about: nothing fails, and nothing is skipped."""
    secret = "sk-slipway-for-this-test"
    listed = tmp_path / "api-keys"
    listed.write_text(f"{keys.line('tests', secret)}\n")
    _, client = start(API_KEYS_FILE=str(listed), WORKERS="2", THREADS="2")
    environment = os.environ | {"SLIPWAY_BASE_URL": str(client.base_url).rstrip("/"), "SLIPWAY_API_KEY": secret}
    words = [sys.executable, "-m", "pytest", "tests/live", "-q", "-p", "no:cacheprovider", "-rs"]
    done = subprocess.run(words, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-3000:]
