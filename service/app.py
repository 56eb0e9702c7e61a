"""Composition root: settings in, a FastAPI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from adapters_store import StoreError
from proof.errors import Refused

from .api import health, predict, tasks
from .api.direct import Direct
from .api.envelope import Envelope
from .api.errors import on_error, on_http, on_invalid
from .errors import ServiceError
from .settings import Settings, resolve_token
from .state import Service

_DESCRIPTION = (
    "One frozen transformer, any number of tasks on it: tiny adapters, answered together in mixed batches."
)


def build_app(
    settings: Settings,
    *,
    on_started: Callable[[bool], None] | None = None,
    on_loading: Callable[[], None] | None = None,
) -> FastAPI:
    """The application. It loads the backbone once it runs; `on_started` is told if that worked.

    `on_loading` is called before, on the thread that loads, when the libraries are imported.

    Raises ConfigurationError if the settings are unsafe.
    """
    service = Service(settings, resolve_token(settings), on_started, on_loading)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(service.start())
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            await service.stop()

    app = FastAPI(
        title="Trunkline",
        description=_DESCRIPTION,
        version=health.version(),
        lifespan=lifespan,
        middleware=[Middleware(Envelope, service=service), Middleware(Direct)],
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.service = service
    for kind in (ServiceError, StoreError, Refused):
        app.add_exception_handler(kind, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    for router in (predict.router, tasks.router, health.router):
        app.include_router(router)
    return app
