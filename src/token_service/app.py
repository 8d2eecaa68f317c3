"""The ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import torch
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sse_starlette.sse import AppStatus

from token_service import __version__, refusals
from token_service.engine import Engine
from token_service.gate import Gate
from token_service.routes import router
from token_service.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from token_service.model import Model
    from token_service.settings import Settings


def create(settings: Settings, model: Model) -> FastAPI:
    """Return the application; its engine starts with the worker's event loop, after the fork."""
    service = Service(settings, model, Engine(model, settings.max_running, settings.max_waiting))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        torch.set_num_threads(settings.threads)
        model.place(settings.device)
        service.engine.start()
        try:
            if not await service.engine.probe(60):
                raise RuntimeError("the first forward pass failed")
            yield
        finally:
            service.engine.stop()

    # By default sse-starlette cuts every stream at SIGTERM; here streams end on their own, within graceful_timeout.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    app = FastAPI(
        title="Token service",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # the pages load scripts from a public network
        redoc_url=None,
        max_body_size=settings.max_body_bytes,
    )
    app.state.service = service
    app.include_router(router)
    refusals.install(app)
    paths = [route.path for route in router.routes if isinstance(route, APIRoute)]
    app.add_middleware(Gate, api_keys=settings.api_keys, routes=paths, max_body=settings.max_body_bytes)
    return app
