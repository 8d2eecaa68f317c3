"""The HTTP routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from token_service import metrics
from token_service.answers import Answer, ChatAnswer, CompletionAnswer
from token_service.engine import EngineFailed, Stream
from token_service.refusals import Refusal
from token_service.schemas import ChatRequest, CompletionRequest  # noqa: TC001 - FastAPI reads the annotations
from token_service.service import Service, collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

router = APIRouter()


def _service(request: Request) -> Service:
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError("app.state.service is not set")
    return service


_Service = Annotated[Service, Depends(_service)]


@router.post("/v1/completions", response_model=None)
async def completions(body: CompletionRequest, request: Request, service: _Service) -> Response:
    """Continue a prompt."""
    stream = await service.submit(body)
    answer = CompletionAnswer(body.model, len(stream.job.prompt), body.include_usage)
    return await _respond(request, stream, answer, streamed=body.stream)


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(body: ChatRequest, request: Request, service: _Service) -> Response:
    """Answer a conversation."""
    stream = await service.submit(body)
    answer = ChatAnswer(body.model, len(stream.job.prompt), body.include_usage)
    return await _respond(request, stream, answer, streamed=body.stream)


@router.get("/v1/models")
async def models(service: _Service) -> dict[str, Any]:
    """List the one model."""
    return {"object": "list", "data": [_describe(service)]}


@router.get("/v1/models/{name:path}")
async def model(name: str, service: _Service) -> dict[str, Any]:
    """Describe one model."""
    service.check_model(name)
    return _describe(service)


@router.get("/livez")
async def livez(service: _Service) -> Response:
    """Say whether this process should go on living: the engine thread runs."""
    alive = service.engine.alive
    return JSONResponse({"status": "alive" if alive else "the engine thread is dead"}, 200 if alive else 503)


@router.get("/readyz")
async def readyz(service: _Service) -> Response:
    """Say whether to send requests here: not draining, and a forward pass succeeded just now."""
    if service.draining:
        return JSONResponse({"status": "draining"}, 503)
    ready = await service.engine.probe(service.settings.ready_seconds)
    return JSONResponse({"status": "ready" if ready else "no forward pass succeeded"}, 200 if ready else 503)


@router.get("/metrics")
async def prometheus() -> Response:
    """Report the metrics of all workers."""
    return Response(await run_in_threadpool(metrics.render), media_type=metrics.CONTENT_TYPE)


def _describe(service: Service) -> dict[str, Any]:
    created, context = service.model.created, service.model.context
    return {
        "id": service.model.name,
        "object": "model",
        "created": created,
        "owned_by": "slipway",
        "max_model_len": context,
    }


async def _respond(request: Request, stream: Stream, answer: Answer, *, streamed: bool) -> Response:
    if streamed:
        # A line feed, as OpenAI's servers send: clients that split on "\n\n" by hand exist.
        return EventSourceResponse(_events(stream, answer), sep="\n")
    pieces = await collect(request, stream)
    body = answer.whole("".join(piece.text for piece in pieces), pieces[-1].finish or "stop", pieces[-1].tokens)
    return Response(orjson.dumps(body), media_type="application/json")


async def _events(stream: Stream, answer: Answer) -> AsyncIterator[dict[str, str]]:
    """Yield server-sent events; closing the generator, as a disconnect does, stops the engine's work."""
    try:
        for chunk in answer.opening():
            yield _event(chunk)
        async for piece in stream:
            if piece.text:
                yield _event(answer.chunk(piece.text))
            if piece.finish:
                yield _event(answer.last_chunk(piece.finish))
                if answer.with_usage:
                    yield _event(answer.usage_chunk(piece.tokens))
        yield {"data": "[DONE]"}
    except EngineFailed as error:
        yield _event(Refusal(500, str(error), code="engine_failed").body())
    finally:
        stream.cancel()


def _event(body: dict[str, Any]) -> dict[str, str]:
    return {"data": orjson.dumps(body).decode()}
