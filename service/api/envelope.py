"""What surrounds every request: its id, access, the count of what is in flight, status and time. Pure ASGI.

Here a request also gets the form that the routes know: no prefix of a proxy, and GET for HEAD.

Knows nothing of routes but those that stay open while the service starts or stops.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ServiceError
from ..logs import request_id
from ..state import Service
from .auth import OPEN_PATHS, check_access
from .errors import response_of
from .identity import identity_of
from .origins import with_origins


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._prefix = service.settings.root_path
        self._answer = with_origins(self._run, service.settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = identity_of(dict(scope["headers"]))
        marked = request_id.set(identity.decode())
        started_s = time.perf_counter()
        status, is_head = 0, scope["method"] == "HEAD"

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identity)]
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        inner = routed(scope, self._prefix)
        in_flight = _own_path(inner) not in OPEN_PATHS
        self._service.num_in_flight += in_flight
        try:
            await self._answer(inner, receive, send_marked)
        finally:
            self._service.num_in_flight -= in_flight
            self._observe(inner, status, time.perf_counter() - started_s)
            request_id.reset(marked)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Access, then the application; every error becomes an answer, unless one has begun."""
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            self._check_access(scope)
            await self._app(scope, receive, send_noted)
        except Exception as error:
            if has_begun:  # nothing can be added to it
                raise
            await response_of(error)(scope, receive, send)

    def _check_access(self, scope: Scope) -> None:
        origins = self._service.settings.cors_origins
        path, method, headers = _own_path(scope), scope["method"], dict(scope["headers"])
        try:
            check_access(path, headers, self._service.token, method=method, origins=origins)
        except ServiceError as error:
            self._service.metrics.rejected.labels(error.code).inc()
            raise

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", "unmatched")
        self._service.metrics.count_request(path, status, seconds)


def routed(scope: Scope, prefix: str) -> Scope:
    """What the routes see of a request: HEAD as the GET that it asks about, and one form of the path.

    A proxy may have cut the prefix off or left it there; ASGI wants it in `path` and in `root_path`.
    """
    method, path = scope["method"], scope["path"]
    own = path[len(prefix) :] if f"{path}/".startswith(f"{prefix}/") else path
    path = f"{prefix}{own or '/'}"
    return {**scope, "method": "GET" if method == "HEAD" else method, "path": path, "root_path": prefix}


def _own_path(scope: Scope) -> str:
    """The path as the routes are written: what access is judged by must be what is routed."""
    path: str = scope["path"]
    return path[len(scope["root_path"]) :]
