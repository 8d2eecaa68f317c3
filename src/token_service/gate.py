"""What every request passes: the API key, a request id, one log line and one count."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import time
from typing import TYPE_CHECKING

from token_service import metrics
from token_service.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from token_service.settings import Secret

OPEN_ROUTES = frozenset({"/livez", "/readyz", "/metrics"})
_log = logging.getLogger("token_service.access")


class Gate:
    """ASGI middleware; plain ASGI, because wrapping a streaming response would hide the client's disconnect."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[Secret], routes: Sequence[str], max_body: int) -> None:
        self._app = app
        # Digests have one length, so that comparing takes the same time whatever was sent.
        self._keys = [hashlib.sha256(key.reveal().encode()).digest() for key in api_keys]
        self._max_body = max_body
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, request_id = time.monotonic(), 0, f"req-{secrets.token_hex(8)}"

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            refusal = self._refusal(scope)
            app = refusal.response() if refusal else self._app
            await app(scope, receive, send_marked)
        finally:
            self._record(scope, status, time.monotonic() - started, request_id)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = dict(scope["headers"])
        if self._keys and scope["path"] not in OPEN_ROUTES and not self._known(headers.get(b"authorization", b"")):
            return Refusal(
                401,
                "missing or wrong API key: send Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:  # a chunked body meets FastAPI's own limit
            return Refusal(413, f"the body exceeds {self._max_body} bytes", code="body_too_large")
        return None

    def _known(self, header: bytes) -> bool:
        kind, _, key = header.partition(b" ")
        digest = hashlib.sha256(key.strip()).digest()
        # Every key is compared, so that the time does not tell which one matched.
        matches = [hmac.compare_digest(digest, known) for known in self._keys]
        return kind.lower() == b"bearer" and any(matches)

    def _record(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = scope["path"] if scope["path"] in self._routes else "other"  # clients must not mint label values
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        metrics.http_requests.labels(route, method, str(status or 499)).inc()
        level = logging.DEBUG if route in OPEN_ROUTES else logging.INFO
        fields = {"request_id": request_id, "method": method, "route": route, "status": status or 499}
        _log.log(level, "request", extra=fields | {"seconds": round(seconds, 4)})
