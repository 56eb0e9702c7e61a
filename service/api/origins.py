"""Pages of other origins: what a browser asks before a call (a preflight), and the headers it wants to see.

The work is Starlette's; this says who may, and lets the question of a page that may not go on to be refused
like any other request, with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
# What a page may read of an answer beside its body.
_EXPOSED = (
    "Accept-Encoding",
    "Allow",
    "ETag",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "X-Adapter",
    "X-Adapter-Version",
    "X-Request-ID",
)


def with_origins(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """`app` for pages of these origins too; `app` itself if there are none."""
    if not origins:
        return app
    # Any header: tracing adds its own. Any method: one that a route lacks is a 405 that the page can read.
    answered = CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("*",),
        allow_headers=("*",),
        expose_headers=_EXPOSED,
        allow_private_network=True,
    )

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope.get("headers", ()))
        refused = is_preflight(scope["method"], headers) and not is_allowed(headers, origins)
        await (app if refused else answered)(scope, receive, send)

    return choose


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks if a page may send a request; it never sends the token with this."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def is_allowed(headers: Mapping[bytes, bytes], origins: Collection[str]) -> bool:
    """Whether the page that sends a request is of one of these origins."""
    return ANY in origins or headers.get(b"origin", b"").decode("latin-1") in origins
