"""Errors as OpenAI clients expect them: a small JSON body for every 4xx and 5xx, never a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request

_LONGEST = 300
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


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

    def response(self) -> Response:
        """Return the HTTP response."""
        return Response(orjson.dumps(self.body()), self.status, dict(self.headers), "application/json")


def printable(text: str, longest: int) -> str:
    """Return `text` cut to `longest` characters, without lone surrogates: clients choose what is in it."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return short.encode("utf-8", "replace").decode()


def _path(location: Sequence[Any]) -> str:
    """Name a parameter as a client wrote it: `messages[0].role`; pydantic's union branch names are left out."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part != "str" and not part.startswith(("list[", "function-")):
            name += f".{part}" if name else part
    return name


def _from_validation(error: RequestValidationError) -> Refusal:
    found = error.errors()
    unknown = [_path(item["loc"][1:]) for item in found if item["type"] == "extra_forbidden"]
    if unknown:
        names = ", ".join(printable(name, 60) for name in unknown[:5])
        return Refusal(400, f"unknown parameter: {names}", param=unknown[0], code="unknown_parameter")
    first = found[0]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    param = _path(first["loc"][1:])
    if not param and first["type"] in ("model_attributes_type", "missing", "model_type"):
        return Refusal(400, "the body must be a JSON object, sent with Content-Type: application/json")
    reason = str(first["msg"]).removeprefix("Value error, ")
    return Refusal(400, f"{param}: {reason}" if param else reason, param=param or None)


def install(app: FastAPI) -> None:
    """Make `app` answer every failure with an OpenAI error body."""

    async def refuse(_: Request, error: Exception) -> Response:
        if isinstance(error, Refusal):
            return error.response()
        if isinstance(error, RequestValidationError):
            return _from_validation(error).response()
        if isinstance(error, HTTPException):
            return Refusal(error.status_code, str(error.detail), headers=error.headers).response()
        return Refusal(500, "internal error").response()

    for kind in (Refusal, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)
