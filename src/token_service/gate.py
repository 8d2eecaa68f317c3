"""What every request passes: the API key, a request id, limits of the body, one log line and one count."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from sse_starlette.sse import SendTimeoutError
from starlette.exceptions import HTTPException

from token_service import metrics
from token_service.keys import KeyFile
from token_service.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from token_service.settings import Settings

HEALTH_ROUTES = frozenset({"/livez", "/readyz"})
METRICS_ROUTE = "/metrics"
BROWSER_ROUTES = frozenset({"/docs", "/openapi.json"})
"""A browser that meets 401 Basic there asks for a password."""

NOTES = "token_service.notes"
"""Key of the ASGI scope under which routes leave fields for the log line."""

_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS"})
_SANE_ID = re.compile(rb"[A-Za-z0-9._:=/+-]{1,128}")
_LONGEST_LENGTH = 15
_CLIENT_GONE = 499
_log = logging.getLogger("token_service.access")


class Gate:
    """ASGI middleware; plain ASGI, because wrapping a streaming response would hide the client's disconnect."""

    def __init__(self, app: ASGIApp, settings: Settings, routes: Sequence[str]) -> None:
        self._app = app
        self._max_body = settings.max_body_bytes
        self._patience = settings.request_timeout
        self._routes = frozenset(routes)
        self._keys = KeyFile(settings.api_keys_file) if settings.api_keys_file else None
        self._metrics_keys = KeyFile(settings.metrics_keys_file) if settings.metrics_keys_file else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0
        headers = dict(scope["headers"])
        notes: dict[str, Any] = {"request_id": _request_id(headers.get(b"x-request-id", b""))}
        scope[NOTES] = notes

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                marks = [(b"x-request-id", notes["request_id"].encode()), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message.get("headers", ()), *marks]
            await send(message)

        try:
            refusal = self._refusal(scope["path"], headers, notes)
            app = refusal.response() if refusal else self._app
            await app(scope, _bounded(receive, started + self._patience, self._max_body), send_marked)
        except SendTimeoutError:
            notes["disconnected"] = "the client did not read its stream"
        except Exception:  # noqa: BLE001 - the last place that can still answer
            _log.exception("request failed", extra={"request_id": notes["request_id"]})
            if status == 0:
                await Refusal(500, "internal error").response()(scope, receive, send_marked)
        finally:
            self._record(scope, status, time.monotonic() - started, notes)

    def _refusal(self, path: str, headers: dict[bytes, bytes], notes: dict[str, Any]) -> Refusal | None:
        keys = self._metrics_keys if path == METRICS_ROUTE else self._keys
        if keys is not None and path not in HEALTH_ROUTES:
            browser = path in BROWSER_ROUTES
            name = keys.find(_sent_key(headers.get(b"authorization", b""), basic=browser))
            if name is None:
                return Refusal(
                    401,
                    "missing or wrong API key: send Authorization: Bearer KEY",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": 'Basic realm="API key as password"' if browser else "Bearer"},
                )
            notes["key"] = name
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and (len(length) > _LONGEST_LENGTH or int(length) > self._max_body):
            # A chunked body is counted while it comes.
            return Refusal(413, f"the body exceeds {self._max_body} bytes", code="body_too_large")
        return None

    def _record(self, scope: Scope, status: int, seconds: float, notes: dict[str, Any]) -> None:
        # Clients must not mint label values: only the template of a route that exists.
        route = getattr(scope.get("route"), "path", scope["path"])
        route = route if route in self._routes else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = status or _CLIENT_GONE
        metrics.http_requests.labels(route, method, str(status)).inc()
        level = logging.DEBUG if route in HEALTH_ROUTES or route == METRICS_ROUTE else logging.INFO
        fields = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        client = scope.get("client")
        _log.log(level, "request", extra=fields | {"client": client[0] if client else None} | notes)


def _request_id(sent: bytes) -> str:
    """Return the client's id where it can be logged safely, or a new one."""
    return sent.decode() if _SANE_ID.fullmatch(sent) else f"req-{secrets.token_hex(8)}"


def _sent_key(header: bytes, *, basic: bool) -> bytes:
    """Return the key in an Authorization header, empty when there is none."""
    kind, _, value = header.partition(b" ")
    if kind.lower() == b"bearer":
        return value.strip()
    if basic and kind.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


def _bounded(receive: Receive, deadline: float, max_body: int) -> Receive:
    """Give up a body that is too large or trickles in; what comes after it, a disconnect, may take its time."""
    complete, size = False, 0

    async def bounded() -> Message:
        nonlocal complete, size
        if complete:
            return await receive()
        try:
            async with asyncio.timeout(max(0, deadline - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the body did not arrive in time") from None
        complete = not message.get("more_body", False)
        size += len(message.get("body", b""))
        if size > max_body:
            raise HTTPException(413, f"the body exceeds {max_body} bytes")
        return message

    return bounded
