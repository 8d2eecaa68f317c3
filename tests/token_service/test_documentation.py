"""The OpenAPI document and its page: complete, consistent, and safe to open."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from token_service import app, settings
from token_service.documentation import page

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

_VOID = {"meta", "br", "link", "img", "input", "hr"}


@pytest.fixture(scope="module")
def application(demo: Path) -> FastAPI:
    """The application, without its engines."""
    return app.create(settings.read({"TOKEN_SERVICE_MODEL_DIR": str(demo)}))


class _Page(HTMLParser):
    """Checks that tags match; collects what refers to something."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        self.names |= {found["id"] or ""} if "id" in found else set()
        assert not any(name.startswith("on") or name == "style" for name in found)
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_importing_the_application_leaves_torch_out() -> None:
    """Workers need neither its memory nor the second that its import takes."""
    code = "import sys, token_service.app, token_service.routes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_route_describes_its_failures(application: FastAPI) -> None:
    """422 is never sent; whatever needs a key or a body can be refused, with the error body."""
    for path, methods in application.openapi()["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert "422" not in answers
            assert path in ("/livez", "/readyz") or "401" in answers
            assert method != "post" or {"400", "404", "413"} <= set(answers)
            for status in set(answers) - {"200"}:
                schema = answers[status]["content"]["application/json"]["schema"]["$ref"]
                assert schema.endswith(("/ErrorBody", "/Health"))


def test_every_parameter_is_described(application: FastAPI) -> None:
    """No parameter without a word about it; null is allowed for all that are not required."""
    schemas: dict[str, Any] = application.openapi()["components"]["schemas"]
    for name in ("CompletionRequest", "ChatRequest", "TokenizeRequest"):
        for parameter, schema in schemas[name]["properties"].items():
            assert schema.get("description") or parameter in ("stream_options", "prompt", "messages"), parameter
            assert parameter in schemas[name].get("required", ()) or {"type": "null"} in schema["anyOf"]


def test_page_shows_every_route_and_parameter(application: FastAPI) -> None:
    """It is made of the same document."""
    document = application.openapi()
    text = bytes(page(document).body).decode()
    for path in document["paths"]:
        assert f"<code>{path}</code>" in text
    for name in document["components"]["schemas"]["ChatRequest"]["properties"]:
        assert f"<code>{name}</code>" in text


def test_page_needs_nothing_from_elsewhere(application: FastAPI) -> None:
    """Well-formed, no scripts, no forms, links only within, and a policy that allows its own style alone."""
    answer = page(application.openapi())
    text = bytes(answer.body).decode()
    seen = _Page()
    seen.feed(text)
    assert not seen.stack
    assert not seen.tags & {"script", "form", "iframe", "img", "link", "object"}
    assert {link.removeprefix("#") for link in seen.links} == seen.names | {"openapi.json"}
    assert "url(" not in text
    assert "@import" not in text
    policy = answer.headers["content-security-policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{allowed}';")


def test_what_a_document_says_is_escaped(application: FastAPI) -> None:
    """The page is made of text, whatever stands in it."""
    document = application.openapi() | {"info": {"title": "<b>", "version": "1", "description": "`<i>` & <script>"}}
    text = bytes(page(document).body).decode()
    assert "<code>&lt;i&gt;</code> &amp; &lt;script&gt;" in text
    assert "<b>" not in text
