"""Request bodies: content type and size are checked before the bytes are kept."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import ClientDisconnect, Request

from ..errors import MalformedRequest, TooLarge, UnsupportedMedia

JSON_TYPES = frozenset({"application/json"})
FILE_TYPES = frozenset({"application/octet-stream", "application/x-safetensors", ""})


async def read_body(request: Request, *, max_bytes: int, types: Collection[str], setting: str) -> bytes:
    """The whole body.

    Raises UnsupportedMedia, TooLarge (naming limit and setting), and MalformedRequest if the client stopped.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in types:
        allowed = " or ".join(sorted(filter(None, types)))
        raise UnsupportedMedia(f"content type {kind or 'missing'!r}; allowed: {allowed}")
    if _announced_bytes(request) > max_bytes:
        raise _too_large(max_bytes, setting)
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        async for chunk in request.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes:
                raise _too_large(max_bytes, setting)
            chunks.append(chunk)
    except ClientDisconnect:
        raise MalformedRequest(f"the connection ended after {num_bytes} bytes of the body") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _announced_bytes(request: Request) -> int:
    announced = request.headers.get("content-length", "0")
    return int(announced) if announced.isascii() and announced.isdigit() else 0


def _too_large(max_bytes: int, setting: str) -> TooLarge:
    return TooLarge(f"the body has more than {max_bytes} bytes; send less, or raise the setting {setting}")
