"""What the route files share: the running service of a request, and the problems any route may answer."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from ..state import Service
from . import schemas

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
