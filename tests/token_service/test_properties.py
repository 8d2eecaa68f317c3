"""Whatever is sent, the service answers: in its own shapes, at once, and never with 500.

Requests come from two sides: schemathesis derives them from `/openapi.json`, hypothesis from what bodies are made of.
Both are derandomised: a failure today is a failure tomorrow.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.token_service.bodies import BODIES, COMMON, VALUES
from tests.token_service.conftest import _starter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis import APIOperation, Case

_EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "60"))
"""Per operation and property; more look longer."""
_PATIENCE = 20
_LONGEST_ERROR = 2000
_settings = hypothesis.settings(
    max_examples=_EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,  # requests have one of their own: _PATIENCE
    suppress_health_check=list(hypothesis.HealthCheck),
)
_PATHS = ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with a short context, so that answers without a limit end soon."""
    for start in _starter(tmp_path_factory.mktemp("properties")):
        yield start(MAX_CONTEXT="64", LOG_LEVEL="error", WORKERS="2", THREADS="2")[1]


@pytest.fixture(scope="module")
def operations(client: httpx.Client) -> list[APIOperation[Any, Any, Any, Any]]:
    """The operations of the OpenAPI document, told the model's name: all but 404 would be out of reach otherwise."""
    document = client.get("/openapi.json").json()
    for schema in document["components"]["schemas"].values():
        model = schema.get("properties", {}).get("model")
        if model:
            model.get("anyOf", [model])[0]["enum"] = ["demo"]
    for path in document["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                # schemathesis takes it for the schema of one event; other tests here read streams to their end.
                answer.get("content", {}).get("text/event-stream", {}).pop("schema", None)
    found = schemathesis.openapi.from_dict(document)
    found.config.base_url = str(client.base_url)
    return [result.ok() for result in found.get_all_operations() if isinstance(result, Ok)]


_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


# Its own integration with pytest reaches into a part of pytest that version 9 has removed.
@pytest.mark.parametrize("mode", GenerationMode)
def test_documented_requests_get_documented_answers(
    operations: list[APIOperation[Any, Any, Any, Any]], mode: GenerationMode
) -> None:
    """Statuses, kinds, headers and bodies are those of the document; what it forbids is refused."""
    answered: dict[str, set[int]] = {operation.label: set() for operation in operations}
    for operation in operations:

        @_settings
        @hypothesis.given(operation.as_strategy(generation_mode=mode))
        def check(case: Case[Any]) -> None:
            response = case.call(timeout=_PATIENCE)
            answered[case.operation.label].add(response.status_code)
            forbidden = [negative_data_rejection] if mode.is_negative else []
            case.validate_response(response, checks=[*_CHECKS, *forbidden])
            if response.status_code >= httpx.codes.BAD_REQUEST:
                _check_error(response.status_code, response.content)

        # An operation that takes nothing cannot be asked wrongly.
        with contextlib.suppress(hypothesis.errors.Unsatisfiable, SkipTest):
            check()
    if mode.is_positive:
        assert all(httpx.codes.OK in answered[f"POST {path}"] for path in _PATHS), answered
    else:
        assert answered["POST /v1/completions"] == {httpx.codes.BAD_REQUEST, httpx.codes.NOT_FOUND}


def _check_error(status: int, content: bytes) -> None:
    assert status < httpx.codes.INTERNAL_SERVER_ERROR, content[:500]
    assert len(content) < _LONGEST_ERROR, content[:500]
    assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
    assert b"Traceback" not in content
    assert b"site-packages" not in content


def _send(client: httpx.Client, path: str, content: bytes) -> httpx.Response:
    answer = client.post(path, content=content, headers={"content-type": "application/json"}, timeout=_PATIENCE)
    if answer.status_code == httpx.codes.OK:
        if answer.headers["content-type"].startswith("text/event-stream"):
            _check_stream(answer.text)
    else:
        _check_error(answer.status_code, answer.content)
    return answer


def _check_stream(text: str) -> None:
    """One finish reason per choice, in its last chunk, then [DONE]."""
    *frames, last = text.rstrip("\n").split("\n\n")
    assert last == "data: [DONE]"
    finished: set[int] = set()
    for frame in frames:
        if frame.startswith(":"):
            continue
        for choice in json.loads(frame.removeprefix("data: "))["choices"]:
            assert choice["index"] not in finished
            if choice["finish_reason"]:
                finished.add(choice["index"])
    assert finished


@pytest.mark.parametrize("path", _PATHS)
def test_bodies_of_the_right_kind_are_answered(client: httpx.Client, path: str) -> None:
    """Any mixture of parameters, most of them in range: an answer or a 400, whichever it is, in its shape."""
    statuses = set()

    @_settings
    @hypothesis.given(BODIES[path])
    def check(body: dict[str, Any]) -> None:
        statuses.add(_send(client, path, json.dumps(body).encode()).status_code)

    check()
    assert httpx.codes.OK in statuses, "nothing valid was tried"


@pytest.mark.parametrize("path", _PATHS)
def test_one_wrong_value_is_answered(client: httpx.Client, path: str) -> None:
    """A good body with one value replaced by any JSON at all."""

    @_settings
    @hypothesis.given(BODIES[path], st.data())
    def check(body: dict[str, Any], data: st.DataObject) -> None:
        names = [*body, *(COMMON if "completions" in path else ()), "unknown"]
        changed = body | {data.draw(st.sampled_from(names)): data.draw(VALUES)}
        if "max_tokens" not in changed and "completions" in path:
            changed["max_tokens"] = 4
        _send(client, path, json.dumps(changed).encode())

    check()


@pytest.mark.parametrize("path", _PATHS)
def test_bytes_are_answered(client: httpx.Client, path: str) -> None:
    """Any JSON value, any bytes, and JSON with a few bytes changed: refused."""
    good = json.dumps({"model": "demo", "prompt": "The", "max_tokens": 1}).encode()
    damaged = st.tuples(st.integers(0, len(good)), st.binary(max_size=4)).map(
        lambda change: good[: change[0]] + change[1] + good[change[0] + len(change[1]) :]
    )

    @_settings
    @hypothesis.given(st.one_of(VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=300), damaged))
    def check(content: bytes) -> None:
        _send(client, path, content)

    check()


def test_headers_are_answered(client: httpx.Client) -> None:
    """Any content type, request id, key or length of header."""
    names = st.sampled_from(
        ["content-type", "authorization", "x-request-id", "origin", "accept", "cookie", "traceparent"]
    )
    values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)

    @_settings
    @hypothesis.given(st.dictionaries(names, values.map(str.strip), max_size=4))
    def check(headers: dict[str, str]) -> None:
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = client.post(
            "/v1/completions", content=b'{"model": "demo", "prompt": "The", "max_tokens": 1}', headers=encoded
        )
        if answer.status_code != httpx.codes.OK:
            _check_error(answer.status_code, answer.content)

    check()


def test_service_still_serves_after_all_this(client: httpx.Client) -> None:
    """Runs last: nothing is held, and an ordinary request is answered."""
    body = {"model": "demo", "prompt": "The statement is used to", "max_tokens": 8, "temperature": 0}
    assert client.post("/v1/completions", json=body).status_code == httpx.codes.OK
    assert client.get("/readyz").status_code == httpx.codes.OK
