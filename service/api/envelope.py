"""What surrounds every request: its id, access, the count of what is in flight, status and time. Pure ASGI.

Knows nothing of routes but those that stay open while the service starts or stops.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ServiceError
from ..logs import request_id
from ..state import Service
from .auth import OPEN_PATHS, check_access
from .errors import response_of

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Envelope:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        identity = _identity(headers)
        marked = request_id.set(identity.decode())
        started_s = time.perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", identity)]
            await send(message)

        in_flight = scope["path"] not in OPEN_PATHS
        self._service.num_in_flight += in_flight
        try:
            await self._run(scope, receive, send_marked, headers)
        except Exception as error:
            if status:  # the answer has begun: nothing can be added to it
                raise
            await response_of(error)(scope, receive, send_marked)
        finally:
            self._service.num_in_flight -= in_flight
            self._observe(scope, status, time.perf_counter() - started_s)
            request_id.reset(marked)

    async def _run(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        try:
            check_access(scope["path"], headers, self._service.token)
        except ServiceError as error:
            self._service.metrics.rejected.labels(error.code).inc()
            await response_of(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", "unmatched")
        self._service.metrics.requests.labels(path, status).inc()
        self._service.metrics.latency.labels(path).observe(seconds)


def _identity(headers: dict[bytes, bytes]) -> bytes:
    """The caller's request id if it is a sane one, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return secrets.token_hex(8).encode()
