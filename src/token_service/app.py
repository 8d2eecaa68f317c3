"""The ASGI application."""

from __future__ import annotations

import hashlib
import logging
import platform
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.routing import APIRoute
from sse_starlette.sse import AppStatus
from starlette.middleware.cors import CORSMiddleware

from token_service import __version__, documentation, health, manifest, metrics, refusals, routes, tokenizer
from token_service.client import EngineClient
from token_service.gate import Gate
from token_service.service import Served, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from token_service.settings import Settings

_log = logging.getLogger(__name__)
_DESCRIPTION = (
    "Generates text with causal language models. Clients for OpenAI's API work when their base URL ends in `/v1` here."
)


def create(settings: Settings) -> FastAPI:
    """Return the application; it connects to its engines when a worker's event loop starts, and does not wait for them.

    Raises:
        StartError: a tokenizer or a key file cannot be used.
    """
    models = {
        source.name: Served(
            tokenizer.load(source.name, source.folder), EngineClient(source.name, settings.socket(source.name))
        )
        for source in settings.models
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as engines:
            for served in models.values():
                served.engine.start()
                engines.push_async_callback(served.engine.stop)
            yield

    # By default sse-starlette cuts every stream at SIGTERM; here streams end on their own, within graceful_timeout.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    app = FastAPI(
        title="Token service",
        description=_DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from a public network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = Service(settings, models)
    app.include_router(routes.router)
    app.include_router(health.router)
    documentation.install(app, guarded=settings.api_keys_file is not None)
    refusals.install(app)
    listed = [*routes.router.routes, *health.router.routes]
    paths = [*documentation.PATHS, *(route.path for route in listed if isinstance(route, APIRoute))]
    app.add_middleware(Gate, settings=settings, routes=paths)
    if settings.cors_origins:  # outside the gate: a browser asks for permission without its key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    if settings.api_keys_file is None:
        _log.warning("no API key file: everybody who reaches the port may generate")
    _describe(settings)
    return app


def _describe(settings: Settings) -> None:
    """Tell Prometheus what runs here."""
    lock = _sha256(settings.lock_file)
    for source in settings.models:
        model = _sha256(source.folder / manifest.NAME)
        metrics.build_info.labels(source.name, __version__, settings.image, lock, model).set(1)
    metrics.environment_info.labels(platform.python_version(), lock).set(1)


def _sha256(file: Path | None) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else ""
