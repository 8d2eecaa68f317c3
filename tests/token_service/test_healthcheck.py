"""The container's health check."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from token_service import healthcheck

if TYPE_CHECKING:
    import httpx
    import pytest


def test_ready_service_is_healthy(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 0 against a service that answers 200."""
    monkeypatch.setenv("TOKEN_SERVICE_PORT", str(service.base_url.port))
    assert healthcheck.main() == 0


def test_silent_port_is_unhealthy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1 and the port in the message."""
    monkeypatch.setenv("TOKEN_SERVICE_PORT", "1")
    assert healthcheck.main() == 1
    assert "port 1" in capsys.readouterr().err


def test_check_imports_nothing_heavy() -> None:
    """It runs every second, beside the workers, on the same cores."""
    code = "import sys, token_service.healthcheck; print({'torch', 'fastapi', 'ssl', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    assert "fastapi" not in done.stdout
