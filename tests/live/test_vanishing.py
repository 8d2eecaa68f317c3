"""Clients that go away, and places that run out."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Metrics, Target

_SECONDS = 3
_BUSY = ("num_requests_running", "num_requests_waiting")


def _busy(metrics: Metrics) -> float:
    totals = metrics.totals()
    return sum(totals[name] for name in _BUSY)


def _wait_freed(metrics: Metrics, cancelled: float, left: float) -> None:
    """Return when the request counts as cancelled and nothing runs any more."""
    while not (metrics.totals()["requests_cancelled"] > cancelled and _busy(metrics) == 0):
        assert time.monotonic() < left + _SECONDS, f"{_busy(metrics)} sequences still hold places"


@pytest.mark.parametrize("choices", [1, 4])
def test_leaving_a_stream_frees_its_places(
    target: Target, metrics: Metrics, endless: dict[str, Any], choices: int
) -> None:
    """Within 3 s of a client's disappearance nothing is generated for it any more."""
    metrics.require_quiet()
    before = metrics.totals()["requests_cancelled"]
    body = endless | {"stream": True, "n": choices}
    with (
        httpx.Client(base_url=target.url, headers=dict(target.headers)) as client,
        client.stream("POST", "/v1/completions", json=body, timeout=30) as answer,
    ):
        next(answer.iter_lines())
    _wait_freed(metrics, before, time.monotonic())


def test_leaving_before_the_whole_answer_frees_its_place(
    target: Target, metrics: Metrics, endless: dict[str, Any]
) -> None:
    """The same for a client that waits for a body that is not streamed."""
    metrics.require_quiet()
    before = metrics.totals()["requests_cancelled"]
    with httpx.Client(base_url=target.url, headers=dict(target.headers)) as client, pytest.raises(httpx.ReadTimeout):
        # Four choices, so that it is not done before the client loses patience.
        client.post("/v1/completions", json=endless | {"n": 4}, timeout=0.4)
    _wait_freed(metrics, before, time.monotonic())


def test_many_leaving_at_once_free_all_places(target: Target, metrics: Metrics, endless: dict[str, Any]) -> None:
    """Thirty clients, all gone within a moment; the next request is served."""
    metrics.require_quiet()
    before = metrics.totals()["requests_cancelled"]

    async def leave() -> None:
        async with httpx.AsyncClient(base_url=target.url, headers=dict(target.headers)) as client:

            async def one() -> None:
                body = endless | {"stream": True}
                async with client.stream("POST", "/v1/completions", json=body, timeout=30) as answer:
                    await anext(answer.aiter_lines())

            await asyncio.gather(*(one() for _ in range(30)))

    asyncio.run(leave())
    _wait_freed(metrics, before, time.monotonic())
    answer = httpx.post(
        f"{target.url}/v1/completions", json=endless | {"max_tokens": 2}, headers=dict(target.headers), timeout=30
    )
    assert answer.status_code == 200


def test_full_service_refuses_at_once(target: Target, metrics: Metrics, endless: dict[str, Any]) -> None:
    """429 with Retry-After within a second, while others wait their turn; places are free again afterwards."""
    metrics.require_quiet()
    choices = next(n for n in (64, 32, 16, 8, 4, 2, 1) if _fits(target, endless, n))
    streams: list[Any] = []
    refused: httpx.Response | None = None
    with httpx.Client(base_url=target.url, headers=dict(target.headers), timeout=30) as client:
        body = endless | {"stream": True, "n": choices}
        try:
            for _ in range(64):
                context = client.stream("POST", "/v1/completions", json=body)
                began = time.monotonic()
                answer = context.__enter__()
                streams.append(context)
                if answer.status_code != 200:
                    refused, seconds = answer, time.monotonic() - began
                    refused.read()
                    break
        finally:
            for context in streams:
                context.__exit__(None, None, None)
    if refused is None:
        pytest.skip("more places than this test fills")
    assert refused.status_code == 429, refused.text
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["message"]
    assert seconds < 1
    left = time.monotonic()
    while _busy(metrics):
        assert time.monotonic() < left + _SECONDS


def _fits(target: Target, endless: dict[str, Any], choices: int) -> bool:
    """Tell whether the service has places for a request of so many choices."""
    body = endless | {"n": choices, "max_tokens": 1}
    headers = dict(target.headers)
    return httpx.post(f"{target.url}/v1/completions", json=body, headers=headers, timeout=30).status_code == 200


def test_health_answers_while_the_service_works(target: Target, endless: dict[str, Any]) -> None:
    """Probes do not queue behind generation."""
    headers = dict(target.headers)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        url, body = f"{target.url}/v1/completions", endless | {"max_tokens": 100}
        work = [pool.submit(httpx.post, url, json=body, headers=headers, timeout=60) for _ in range(8)]
        seconds = []
        while not all(task.done() for task in work):
            began = time.monotonic()
            assert [httpx.get(target.url + path, timeout=5).status_code for path in ("/livez", "/readyz")] == [200, 200]
            seconds.append(time.monotonic() - began)
    assert [task.result().status_code for task in work] == [200] * 8
    assert max(seconds, default=0) < 2
