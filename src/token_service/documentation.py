"""The OpenAPI document and the page that shows it: rendered here, without scripts or anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from token_service.gate import BROWSER_ROUTES, HEALTH_ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

PATHS = tuple(sorted(BROWSER_ROUTES))
_TEMPLATE = Path(__file__).with_name("documentation.html")
_TAGS = {
    "generation": "Generate",
    "tokens": "Count tokens",
    "models": "Models",
    "service": "The service itself",
}
Document = dict[str, Any]


@dataclass
class Parameter:
    """One row of a request's table."""

    name: str
    kind: str
    required: bool
    description: str


@dataclass
class Operation:
    """One route as the page shows it."""

    method: str
    path: str
    summary: str
    open: bool
    example: str = ""
    parameters: list[Parameter] = field(default_factory=list)
    responses: list[tuple[str, str]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Fragment of the page's address."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.method}{self.path}".lower()).strip("-")


def install(app: FastAPI, *, guarded: bool) -> None:
    """Serve `/openapi.json` and `/docs`, which say the same."""
    generate = app.openapi

    def openapi() -> Document:
        if app.openapi_schema is None:
            _mend(generate(), guarded=guarded)
        return app.openapi_schema or {}

    async def docs() -> Response:
        return page(app.openapi())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    app.add_api_route("/docs", docs, include_in_schema=False)


def _mend(document: Document, *, guarded: bool) -> None:
    """Say what FastAPI cannot know: 422 is never sent, and keys are asked for outside of it."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            if guarded and path not in HEALTH_ROUTES:
                operation["security"] = [{"key": []}]
    if guarded:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}


def page(document: Document) -> Response:
    """Return the page that shows an OpenAPI document."""
    loader = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    loader.filters["code"] = _code
    template = loader.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    groups = [
        (title, [operation for tag, operation in _operations(document) if tag == name]) for name, title in _TAGS.items()
    ]
    html = template.render(info=document["info"], groups=groups, guarded="securitySchemes" in document["components"])
    style = html[html.index("<style>") + len("<style>") : html.index("</style>")]
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    return HTMLResponse(html, headers=headers)


def _code(text: str) -> Markup:
    """Turn `words` in back quotes to code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _operations(document: Document) -> Iterator[tuple[str, Operation]]:
    for path, methods in document["paths"].items():
        for method, found in methods.items():
            operation = Operation(
                method.upper(),
                path,
                found.get("description", found.get("summary", "")),
                open="security" not in found,
                responses=[(status, answer["description"]) for status, answer in found["responses"].items()],
            )
            for parameter in found.get("parameters", ()):
                kind = _kind(parameter["schema"], document)
                operation.parameters.append(Parameter(parameter["name"], kind, True, "In the path."))  # noqa: FBT003
            if "requestBody" in found:
                schema = _resolve(found["requestBody"]["content"]["application/json"]["schema"], document)
                operation.parameters += _parameters(schema, document)
                operation.example = _example(schema)
            yield found["tags"][0], operation


def _parameters(schema: Document, document: Document) -> list[Parameter]:
    required = schema.get("required", [])
    rows = [
        Parameter(name, _kind(value, document), name in required, value.get("description", ""))
        for name, value in schema["properties"].items()
    ]
    return sorted(rows, key=lambda row: not row.required)


def _example(schema: Document) -> str:
    """Return the body's example, one parameter per line, in the order of the table."""
    (body,) = schema.get("examples", [{}])
    rows = [f"    {json.dumps(name)}: {json.dumps(body[name])}" for name in schema["properties"] if name in body]
    return "{\n" + ",\n".join(rows) + "\n  }"


def _resolve(schema: Document, document: Document) -> Document:
    if "$ref" not in schema:
        return schema
    found: Document = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def _kind(schema: Document, document: Document) -> str:
    """Describe a type in a few words, with its range."""
    if "$ref" in schema:
        return _fields(_resolve(schema, document), document)
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        kinds = [_kind(option, document) for option in options if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema or "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if "format" in schema:
        return str(schema["format"]).replace("-", " ")
    kind = str(schema.get("type", "any"))
    if kind == "array":
        inner = _kind(schema["items"], document)
        return f"list of {inner}" + (f" (at most {schema['maxItems']})" if "maxItems" in schema else "")
    return kind + _range(schema)


def _fields(schema: Document, document: Document) -> str:
    parts = [f"{name}: {_kind(value, document)}" for name, value in schema.get("properties", {}).items()]
    return "{" + "; ".join(parts) + "}"


def _range(schema: Document) -> str:
    """Return the range of a number, as in ` 0 … 2`."""
    bounds = [
        (schema.get("minimum"), "from {}"),
        (schema.get("exclusiveMinimum"), "above {}"),
        (schema.get("maximum"), "to {}"),
        (schema.get("exclusiveMaximum"), "below {}"),
    ]
    words = [text.format(_short(value)) for value, text in bounds if value is not None]
    return f" {' '.join(words)}" if words else ""


def _short(value: float) -> str:
    """Write a number; large powers of two as such."""
    size = abs(int(value))
    if size < 1 << 20 or size & (size - 1):
        return f"{value:g}"
    return f"{'-' if value < 0 else ''}2^{size.bit_length() - 1}"
