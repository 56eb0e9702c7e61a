"""Request bodies: content type, encoding and size are checked before the bytes are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from starlette.requests import Request

from ..errors import MalformedRequest, TooLarge, UnsupportedMedia
from .unpacking import coding_of, unpacked

JSON_TYPES = frozenset({"application/json"})
FILE_TYPES = frozenset({"application/octet-stream", "application/x-safetensors", ""})


async def read_body(request: Request, *, max_bytes: int, types: Collection[str], setting: str) -> bytes:
    """The whole body, unpacked where Content-Encoding says that it is packed.

    Raises UnsupportedMedia, TooLarge (naming limit and setting; packed or unpacked), and MalformedRequest if
    the client stopped or what is packed is damaged.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in types:
        allowed = " or ".join(sorted(filter(None, types)))
        raise UnsupportedMedia(f"content type {kind[:80] or 'missing'!r}; allowed: {allowed}")
    coding = coding_of(request.headers.getlist("content-encoding"))
    if _announced_bytes(request) > max_bytes:
        raise TooLarge(_too_large(max_bytes, setting))
    if coding is None:
        return await _whole(request, max_bytes, setting)
    packed = _received(request, max_bytes, setting)
    too_large = _too_large(max_bytes, setting, f" once its {coding} is unpacked")
    return b"".join([piece async for piece in _bounded(unpacked(packed, coding), max_bytes, too_large)])


async def _whole(request: Request, max_bytes: int, setting: str) -> bytes:
    """A plain body, which mostly is one message: it costs no generator."""
    pieces: list[bytes] = []
    num_bytes, is_more = 0, True
    while is_more:
        piece, is_more = await _next(request, num_bytes, max_bytes, setting)
        pieces.append(piece)
        num_bytes += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _received(request: Request, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    num_bytes, is_more = 0, True
    while is_more:
        piece, is_more = await _next(request, num_bytes, max_bytes, setting)
        num_bytes += len(piece)
        yield piece


async def _next(request: Request, num_before: int, max_bytes: int, setting: str) -> tuple[bytes, bool]:
    """The next piece of a body of which so many bytes were received, and whether there are more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise MalformedRequest(f"the connection ended after {num_before} bytes of the body")
    piece: bytes = message.get("body", b"")
    if num_before + len(piece) > max_bytes:
        raise TooLarge(_too_large(max_bytes, setting))
    return piece, message.get("more_body", False)


async def _bounded(pieces: AsyncIterator[bytes], max_bytes: int, too_large: str) -> AsyncIterator[bytes]:
    num_bytes = 0
    async for piece in pieces:
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise TooLarge(too_large)
        yield piece


def _announced_bytes(request: Request) -> int:
    announced = request.headers.get("content-length", "0")
    return int(announced) if announced.isascii() and announced.isdigit() else 0


def _too_large(max_bytes: int, setting: str, when: str = "") -> str:
    return f"the body has more than {max_bytes} bytes{when}; send less, or raise the setting {setting}"
