"""Where the deployed service is, and clients for it.

SLIPWAY_BASE_URL (default http://127.0.0.1:8000), SLIPWAY_API_KEY (when the API is guarded), SLIPWAY_MODEL (default:
the first one listed).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_URL = os.environ.get("SLIPWAY_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
API_KEY = os.environ.get("SLIPWAY_API_KEY", "")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add to every failure which service was asked and what it says about itself."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        report.sections.append((f"service at {BASE_URL}", _state()))
    del item


def _state() -> str:
    lines = []
    for path in ("/livez", "/readyz"):
        try:
            answer = httpx.get(BASE_URL + path, timeout=5)
            lines.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        except httpx.HTTPError as error:
            lines.append(f"{path}: {error!r}")
    return "\n".join(lines)


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """A plain client that sends the key."""
    headers = {"authorization": f"Bearer {API_KEY}"} if API_KEY else {}
    with httpx.Client(base_url=BASE_URL, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def api() -> Iterator[openai.OpenAI]:
    """The client most users have."""
    with openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY or "none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def model(api: openai.OpenAI) -> str:
    """The model that is served."""
    return os.environ.get("SLIPWAY_MODEL") or api.models.list().data[0].id
