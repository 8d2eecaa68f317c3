"""Errors as OpenAI clients expect them: a small JSON body for every 4xx and 5xx, never a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from token_service import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request

_LONGEST = 300
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_REASONS = {
    400: "invalid",
    401: "unauthorized",
    404: "other",
    405: "other",
    408: "body",
    413: "body",
    429: "queue_full",
    503: "not_ready",
}
_CODES = {408: "body_too_slow", 413: "body_too_large"}


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """An answer with an error body.

    Attributes:
        status: HTTP status code.
        message: For people.
        param: The parameter at fault.
        code: For programs.
        headers: Further response headers.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """Return the OpenAI error object."""
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"  # noqa: PLR2004 - HTTP's border
        return {
            "error": {
                "message": printable(self.message, _LONGEST),
                "type": _TYPES.get(self.status, fallback),
                "param": None if self.param is None else printable(self.param, 100),
                "code": self.code,
            }
        }

    @property
    def reason(self) -> str | None:
        """What the metrics call it; None for what is not a refusal but a failure, or has no reader."""
        special = {"context_length_exceeded": "context", "model_not_found": "model"}
        return special.get(self.code or "") or _REASONS.get(self.status)

    def response(self) -> Response:
        """Return the HTTP response, and count it."""
        if self.reason:
            metrics.rejected.labels(self.reason).inc()
        return Response(orjson.dumps(self.body()), self.status, dict(self.headers), "application/json")


def printable(text: str, longest: int) -> str:
    """Return `text` cut to `longest` characters, without lone surrogates: clients choose what is in it."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return short.encode("utf-8", "replace").decode()


def _path(location: Sequence[Any]) -> str:
    """Name a parameter as a client wrote it: `messages[0].role`; the branches of a union are left out."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not part.startswith("as-"):
            name += f".{part}" if name else part
    return name


def _from_validation(error: RequestValidationError) -> Refusal:
    first = error.errors()[0]
    within = _path(first["loc"][1:])
    if first["type"] == "unknown_parameter":
        names = [f"{within}.{name}" if within else name for name in first["ctx"]["names"]]
        shown = ", ".join(printable(name, 60) for name in names)
        return Refusal(400, f"unknown parameter: {shown}", param=names[0], code="unknown_parameter")
    if first["type"] == "refused":
        return Refusal(400, first["ctx"]["message"], param=first["ctx"]["param"], code=first["ctx"]["code"])
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    if not within and first["type"] in ("model_attributes_type", "missing", "model_type"):
        return Refusal(400, "the body must be a JSON object, sent with Content-Type: application/json")
    reason = str(first["msg"]).removeprefix("Value error, ")
    return Refusal(400, f"{within}: {reason}" if within else reason, param=within or None)


def install(app: FastAPI) -> None:
    """Make `app` answer every failure with an OpenAI error body."""

    async def refuse(_: Request, error: Exception) -> Response:
        if isinstance(error, Refusal):
            return error.response()
        if isinstance(error, RequestValidationError):
            return _from_validation(error).response()
        if isinstance(error, HTTPException):
            status = error.status_code
            return Refusal(status, str(error.detail), code=_CODES.get(status), headers=error.headers).response()
        return Refusal(500, "internal error").response()

    for kind in (Refusal, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)
