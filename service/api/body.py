"""Request bodies: content type, encoding and size are checked before the bytes are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from starlette.requests import ClientDisconnect, Request

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
    packed = _received(request, max_bytes, setting)
    if coding is None:
        return await _joined(packed)
    too_large = _too_large(max_bytes, setting, f" once its {coding} is unpacked")
    return await _joined(_bounded(unpacked(packed, coding), max_bytes, too_large))


async def _received(request: Request, max_bytes: int, setting: str) -> AsyncIterator[bytes]:
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise TooLarge(_too_large(max_bytes, setting))
            yield chunk
    except ClientDisconnect:
        raise MalformedRequest(f"the connection ended after {num_bytes} bytes of the body") from None


async def _bounded(pieces: AsyncIterator[bytes], max_bytes: int, too_large: str) -> AsyncIterator[bytes]:
    num_bytes = 0
    async for piece in pieces:
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise TooLarge(too_large)
        yield piece


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    kept = [piece async for piece in pieces if piece]
    return kept[0] if len(kept) == 1 else b"".join(kept)


def _announced_bytes(request: Request) -> int:
    announced = request.headers.get("content-length", "0")
    return int(announced) if announced.isascii() and announced.isdigit() else 0


def _too_large(max_bytes: int, setting: str, when: str = "") -> str:
    return f"the body has more than {max_bytes} bytes{when}; send less, or raise the setting {setting}"
