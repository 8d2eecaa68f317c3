"""Where the deployed service is, and clients for it.

SLIPWAY_BASE_URL (default http://127.0.0.1:8000), SLIPWAY_API_KEY (when the API is guarded), SLIPWAY_MODEL (default:
the first one listed). Tests leave the service as they found it. Those that need it to themselves skip when others use
it. `/metrics` behind a balancer shows one replica at a time: `Metrics` looks until it has likely seen all of them.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BASE_URL = os.environ.get("SLIPWAY_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
API_KEY = os.environ.get("SLIPWAY_API_KEY", "")
HEADERS = {"authorization": f"Bearer {API_KEY}"} if API_KEY else {}
_SAMPLE = re.compile(r"^(token_service_\w+?)(?:_total)?(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LOOKS = 6


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


@dataclass(frozen=True)
class Target:
    """The service under test."""

    url: str
    headers: Mapping[str, str] = field(repr=False)  # pytest prints what a failing test was given
    key: str = field(repr=False)

    def asynchronous(self) -> openai.AsyncOpenAI:
        """Return the asynchronous client, to be closed by the caller."""
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60)


class Metrics:
    """The metrics of all replicas."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def totals(self, *labels: str) -> dict[str, float]:
        """Return name -> sum over replicas, of the samples that have all of `labels` (as `route="/v1/models"`)."""
        replicas: dict[str, str] = {}
        for _ in range(_LOOKS):
            # A connection of its own each: balancers choose per connection.
            answer = httpx.get(f"{BASE_URL}/metrics", headers=dict(self._headers), timeout=10)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                pytest.skip("/metrics has a key of its own here")
            assert answer.status_code == 200, answer.text[:300]
            # How long a replica took to load its model, to the nanosecond, is as good as a name.
            name = "".join(re.findall(r"^token_service_model_load_seconds\S* (\S+)$", answer.text, re.MULTILINE))
            replicas[name] = answer.text
        sums: dict[str, float] = defaultdict(float)
        for text in replicas.values():
            for name, found, value in _SAMPLE.findall(text):
                if all(label in found for label in labels):
                    sums[name.removeprefix("token_service_")] += float(value)
        return sums

    def require_quiet(self) -> None:
        """Skip the test when somebody else uses the service."""
        deadline = time.monotonic() + 3  # what the test before this one left may still be on its way out
        while True:
            before = self.totals('route="/v1/')
            time.sleep(0.3)  # the length of the look, not a wait for something
            busy = sum(self.totals()[name] for name in ("num_requests_running", "num_requests_waiting"))
            if not busy and self.totals('route="/v1/') == before:
                return
            if time.monotonic() > deadline:
                pytest.skip("others use this service at the moment")


@pytest.fixture(scope="session")
def target() -> Target:
    """The service under test."""
    return Target(BASE_URL, HEADERS, API_KEY or "none")


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    """The metrics of all replicas."""
    return Metrics(HEADERS)


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """A plain client that sends the key."""
    with httpx.Client(base_url=BASE_URL, headers=HEADERS, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def api() -> Iterator[openai.OpenAI]:
    """The client most users have."""
    with openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=API_KEY or "none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def model(api: openai.OpenAI) -> str:
    """The model that is served."""
    return os.environ.get("SLIPWAY_MODEL") or api.models.list().data[0].id


@pytest.fixture(scope="session")
def endless(http: httpx.Client, model: str) -> dict[str, Any]:
    """The body of a completion that does not end before its limit: one token is as good as certain."""
    answer = http.post("/tokenize", json={"model": model, "prompt": "the", "add_special_tokens": False})
    found = answer.json()
    prompt, context = "Say it again: the the", int(found["max_model_len"])
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": min(4000, context - 64),
        "temperature": 0,
        "logit_bias": {str(found["tokens"][-1]): 100},
    }
