"""`POST /v1/predict` past the framework's stack of dependencies and contexts, which cost more than a pass.

The route stays where it was: the document shows it, and other methods reach it. Both ways run the same
function, and what that raises becomes the same answer (`errors.response_of`).
"""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from . import predict

ROUTE = next(route for route in predict.router.routes if isinstance(route, APIRoute))


class Direct:
    """ASGI middleware, the innermost: it answers predictions and hands on everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_prediction(scope):
            await self._app(scope, receive, send)
            return
        scope["route"] = ROUTE  # what the metrics call it
        response = await predict.predict(Request(scope, receive))
        await response(scope, receive, send)


def _is_prediction(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return bool(scope["path"] == f"{scope['root_path']}{ROUTE.path}")
