"""What the route files share: the service of a request, how JSON comes in, the problems any may answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from ..state import Service
from . import schemas
from .body import JSON_TYPES, read_body
from .reading import check_utf8

_CONTENT = {"application/problem+json": {"schema": schemas.Problem.model_json_schema()}}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A problem document that says what is wrong and how to mend it",
        "content": _CONTENT,
    },
    "5XX": {"description": "A problem document", "content": _CONTENT},
}


def service_of(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service), "the application was not built by build_app; this is a bug"
    return service


class JsonRoute(APIRoute):
    """A route whose JSON body FastAPI reads: unpacked, bounded and in UTF-8 when it gets there."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The library's handler, given the bytes that our own reading lets through."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_first(request: Request) -> Response:
            limit = service_of(request).settings.max_body_bytes
            types = JSON_TYPES | {""}  # without a body there is no type: it is told as missing
            given = await read_body(request, max_bytes=limit, types=types, setting="max_body_bytes")
            body = check_utf8(given)

            async def replayed() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, replayed))

        return read_first
