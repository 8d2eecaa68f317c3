"""The service as a shell script sees it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Target

_CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(_CURL is None, reason="curl is not installed")


def _curl(target: Target, path: str, *words: str) -> str:
    headers = [word for name, value in target.headers.items() for word in ("-H", f"{name}: {value}")]
    command = [str(_CURL), "--silent", "--show-error", "--max-time", "30", *headers, *words, target.url + path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_curl_streams_tokens(target: Target, model: str) -> None:
    """The README's line."""
    body = json.dumps({"model": model, "prompt": "The value of", "max_tokens": 6, "stream": True})
    output = _curl(target, "/v1/completions", "-N", "-H", "Content-Type: application/json", "-d", body)
    lines = [line for line in output.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["choices"] for line in lines[:-1])


def test_curl_without_a_content_type_is_told_so(target: Target, model: str) -> None:
    """`curl -d` sends a form: answered or refused, with JSON in either case."""
    body = json.dumps({"model": model, "prompt": "The", "max_tokens": 1})
    output = json.loads(_curl(target, "/v1/completions", "-d", body))
    assert output.get("choices") or "application/json" in output["error"]["message"]


def test_head_and_options_are_answered(target: Target) -> None:
    """Health answers HEAD without a body; a wrong method is 405 with the allowed ones."""
    assert _curl(target, "/livez", "--head").startswith("HTTP/1.1 200")
    refused = _curl(target, "/v1/completions", "--include", "-X", "DELETE")
    head, _, body = refused.replace("\r", "").partition("\n\n")
    assert head.startswith("HTTP/1.1 405")
    assert "allow: post" in head.lower()
    assert json.loads(body)["error"]["message"]
