"""The HTTP routes about the service itself: models, health, metrics, version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from token_service import __version__, metrics, shapes
from token_service.refusals import printable
from token_service.service import Service

if TYPE_CHECKING:
    from token_service.service import Served

router = APIRouter()


def _service(request: Request) -> Service:
    service = request.app.state.service
    if not isinstance(service, Service):
        raise TypeError("app.state.service is not set")
    return service


Current = Annotated[Service, Depends(_service)]
"""A route's parameter: the state of this worker."""


def json(body: dict[str, Any], status: int = 200) -> Response:
    """Return a JSON response."""
    return Response(orjson.dumps(body), status, media_type="application/json")


@router.get(
    "/v1/models",
    response_model=None,
    tags=["models"],
    responses=shapes.described(shapes.Models, 401),
)
async def models(service: Current) -> Response:
    """List the models."""
    return json({"object": "list", "data": [_describe(served) for served in service.models.values()]})


@router.get(
    "/v1/models/{model:path}",
    response_model=None,
    tags=["models"],
    responses=shapes.described(shapes.Model, 401, 404),
)
async def model(model: str, service: Current) -> Response:
    """Describe one model; its `max_model_len` is null until the model is loaded."""
    return json(_describe(service.model(model)))


@router.get(
    "/version",
    response_model=None,
    tags=["service"],
    responses=shapes.described(shapes.Version, 401),
)
async def version() -> Response:
    """Say which version of the service this is."""
    return json({"version": __version__})


@router.head("/livez", include_in_schema=False)
@router.get(
    "/livez",
    response_model=None,
    tags=["service"],
    responses={200: {"model": shapes.Health}, 503: {"model": shapes.Health, "description": "An engine is gone."}},
)
async def livez(service: Current) -> Response:
    """Say whether this container should go on living: no engine is gone or silent."""
    dead = [name for name, served in service.models.items() if not served.engine.alive]
    states = {name: "engine failed" if name in dead else "alive" for name in service.models}
    return json({"status": "engine failed" if dead else "alive", "models": states}, 503 if dead else 200)


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=None,
    tags=["service"],
    responses={200: {"model": shapes.Health}, 503: {"model": shapes.Health, "description": "Send requests elsewhere."}},
)
async def readyz(service: Current) -> Response:
    """Say whether to send requests here: not draining, and each model made a forward pass just now."""
    names = list(service.models)
    found = await asyncio.gather(*(_state(service.models[name], service.settings.ready_seconds) for name in names))
    states = dict(zip(names, found, strict=True))
    worst = next((state for state in found if state != "ready"), "ready")
    status = "draining" if service.draining else worst
    return json({"status": status, "models": states}, 200 if status == "ready" else 503)


@router.get(
    "/metrics",
    response_model=None,
    tags=["service"],
    responses=shapes.described(None, 401),
)
async def prometheus() -> Response:
    """Report the metrics of all processes of this replica, as Prometheus reads them."""
    return Response(await run_in_threadpool(metrics.render), media_type=metrics.CONTENT_TYPE)


async def _state(served: Served, max_age: float) -> str:
    engine = served.engine
    if not engine.alive:
        return "engine failed"
    if not engine.connected:
        return "loading"
    if engine.environment != "ok":
        return printable(f"environment: {engine.environment}", 300)
    return "ready" if await engine.probe(max_age) else "no forward pass succeeded"


def _describe(served: Served) -> dict[str, Any]:
    hello = served.engine.hello
    return {
        "id": served.engine.model,
        "object": "model",
        "created": hello.created if hello else 0,
        "owned_by": "slipway",
        "max_model_len": hello.context if hello else None,
    }
