"""Pages of other origins, where every page may call; by name they are tried on a live server."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from service.api.origins import with_origins


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), "https://a.example", None),
        (("*",), "https://a.example", "*"),
        (("*",), "null", "*"),
        (("https://a.example", "http://b.example"), "http://b.example", "http://b.example"),
        (("https://a.example",), "http://b.example", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_what_a_page_is_told(origins: tuple[str, ...], origin: str, allowed: str | None, method: str) -> None:
    """The question of a page that may not reaches the application, which refuses it."""
    app = with_origins(PlainTextResponse("of the application"), origins)
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "if-match",
    }

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            return await http.request(method, "/", headers=headers)

    answer = asyncio.run(ask())
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert (answer.text == "of the application") == (method == "GET" or allowed is None)
    if method == "OPTIONS" and allowed:
        assert answer.headers["access-control-allow-headers"] == "if-match"
