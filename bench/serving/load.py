"""Streaming requests over raw sockets: the load generator shares the processors with what it measures.

Every request has a connection of its own, so that a balancer or the kernel spreads them over the HTTP workers. Nothing
is parsed while a stream runs except until its first text has arrived.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import string
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bench.serving.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Body = dict[str, Any]
_TEXT = re.compile(rb'"(?:text|content)":"[^"]')
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_USAGE = re.compile(rb'"completion_tokens":\s*(\d+)')


@dataclass(frozen=True)
class Result:
    """What one request saw; times are of the monotonic clock, in seconds.

    Attributes:
        status: HTTP status; 0 when the connection failed or was given up before the headers.
        started: Before the connection was made.
        first: First text arrived; None when none did.
        ended: The connection ended.
        tokens: Generated tokens by the server's own count.
        complete: The stream ended with `[DONE]`, or the whole body arrived.
        text: All that was received, headers included.
    """

    status: int
    started: float
    first: float | None
    ended: float
    tokens: int
    complete: bool
    text: bytes

    @property
    def to_first(self) -> float:
        """Seconds to the first text.

        Raises:
            BenchError: there was none.
        """
        if self.first is None:
            raise BenchError(f"no text arrived: {self.text[-300:]!r}")
        return self.first - self.started


class _Exchange(asyncio.Protocol):
    """One request and all that comes back."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._transport: asyncio.BaseTransport | None = None
        self.received = bytearray()
        self.first: float | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.talking: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if isinstance(transport, asyncio.Transport):
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.first is None and _TEXT.search(self.received):
            self.first = time.monotonic()
            if not self.talking.done():
                self.talking.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        for future in (self.closed, self.talking):
            if not future.done():
                future.set_result(None)


def _request(url: str, body: bytes, path: str, headers: dict[str, str]) -> tuple[str, int, bytes]:
    parts = urlsplit(url)
    lines = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return parts.hostname or "127.0.0.1", parts.port or 80, head.encode() + b"\r\n" + body


async def send(  # noqa: PLR0913 - keyword arguments of one request
    url: str,
    body: Body | bytes,
    *,
    path: str = "/v1/completions",
    headers: dict[str, str] | None = None,
    leave_after: float | None = None,
    leave_at_first: bool = False,
    timeout: float = 600,  # noqa: ASYNC109 - a limit on a request, as in every HTTP client
) -> Result:
    """Send one request and wait until the connection ends.

    Args:
        url: Base URL.
        body: JSON object, or bytes that are sent as they are.
        path: Route.
        headers: Further headers.
        leave_after: Abort the connection after so many seconds.
        leave_at_first: Abort the connection when the first text arrives.
        timeout: Seconds after which the request counts as hung.

    Raises:
        BenchError: the connection did not end in time.
    """
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    host, port, request = _request(url, content, path, headers or {})
    started = time.monotonic()
    try:
        transport, exchange = await asyncio.get_running_loop().create_connection(lambda: _Exchange(request), host, port)
    except OSError as error:
        return Result(0, started, None, time.monotonic(), 0, complete=False, text=repr(error).encode())
    waited = exchange.talking if leave_at_first else exchange.closed
    done, _ = await asyncio.wait({waited}, timeout=timeout if leave_after is None else leave_after)
    result = _result(exchange, started)
    transport.abort()
    await exchange.closed
    if not done and leave_after is None:
        raise BenchError(f"{path}: no end after {timeout:g} s; received {bytes(exchange.received[-300:])!r}")
    return result


def _result(exchange: _Exchange, started: float) -> Result:
    text = bytes(exchange.received)
    status, usage = _STATUS.match(text), _USAGE.findall(text)
    streamed = b"text/event-stream" in text[:2000].lower()
    complete = b"data: [DONE]" in text[-64:] if streamed else bool(status) and exchange.closed.done()
    return Result(
        int(status[1]) if status else 0,
        started,
        exchange.first,
        time.monotonic(),
        int(usage[-1]) if usage else 0,
        complete=complete,
        text=text,
    )


def seeded(seed: int) -> random.Random:
    """Return a generator whose choices are the same in every run."""
    return random.Random(seed)  # noqa: S311 - no secret depends on it


def words(count: int, rng: random.Random) -> str:
    """Return random words that are one token each for the benchmark's tokenizer; no two prompts share a beginning."""
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=3)) for _ in range(count))


def streaming(model: str, prompt: str, tokens: int) -> Body:
    """Return the body of a greedy streaming completion of exactly `tokens` tokens."""
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def checked(result: Result, tokens: int) -> Result:
    """Return `result`.

    Raises:
        BenchError: it is not a complete stream of `tokens` tokens.
    """
    if result.status != 200 or not result.complete or result.tokens != tokens:  # noqa: PLR2004 - HTTP's OK
        raise BenchError(
            f"expected 200 and {tokens} tokens; seen {result.status}, {result.tokens} tokens, "
            f"complete {result.complete}: {result.text[-400:]!r}"
        )
    return result


async def clients(
    url: str, queues: Iterable[Sequence[Body]], *, exact: bool = True
) -> tuple[float, list[list[Result]]]:
    """Let one client per queue send its requests one after the other, all clients side by side.

    Args:
        url: Base URL.
        queues: Bodies of streaming requests.
        exact: Insist on as many tokens as were asked for; a model that ends its answers gives fewer.

    Returns:
        Seconds from the first request to the last answer, and each client's results.
    """

    async def client(bodies: Sequence[Body]) -> list[Result]:
        results = [await send(url, body) for body in bodies]
        return [
            checked(one, body["max_tokens"] if exact else one.tokens) for one, body in zip(results, bodies, strict=True)
        ]

    started = time.monotonic()
    results = await asyncio.gather(*(client(bodies) for bodies in queues))
    return time.monotonic() - started, results
