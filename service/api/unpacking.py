"""Compressed bodies: which codings are understood, and unpacking them piece by piece.

It knows no limit of a body: a piece is bounded whatever it unpacks to, so who counts them stops a bomb before
it is there. Content codings are those of RFC 9110, 8.4; gzip may have several members (RFC 1952, 2.2).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence

from ..errors import MalformedRequest, UnsupportedMedia

ACCEPTED = "gzip, deflate"
MAX_MEMBERS = 1024  # every one costs its set-up, and may be empty
PIECE_BYTES = 256 * 1024

_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def coding_of(headers: Sequence[str]) -> str | None:
    """The one coding that the Content-Encoding headers name; None for a plain body.

    Raises UnsupportedMedia for another one, and for several on top of each other.
    """
    named = [one.strip().lower() for header in headers for one in header.split(",")]
    applied = [one for one in named if one not in ("", "identity")]
    if not applied:
        return None
    if len(applied) > 1 or applied[0] not in _NAMES:
        found = ", ".join(applied)[:80]
        raise UnsupportedMedia(
            f"content encoding {found!r}; allowed: one of {ACCEPTED}, or none", accept_encoding=ACCEPTED
        )
    return _NAMES[applied[0]]


async def unpacked(chunks: AsyncIterator[bytes], coding: str) -> AsyncIterator[bytes]:
    """The body in pieces of at most PIECE_BYTES. Raises MalformedRequest for what is cut or damaged."""
    num_members, member = 1, zlib.decompressobj(_WINDOW_BITS[coding])
    async for chunk in chunks:
        rest = chunk
        while rest:  # output that waits inside has at least the checksum behind it, which is not taken before
            if member.eof:
                num_members, member = num_members + 1, _next_member(coding, num_members)
            piece = _decompress(member, rest, coding)
            rest = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece
                await asyncio.sleep(0)  # a chunk may unpack to a thousand times its size: let others run
    if not member.eof:
        raise MalformedRequest(f"the body is not whole: its {coding} data is cut; send it again")


def _decompress(member: zlib._Decompress, data: bytes, coding: str) -> bytes:
    try:
        return member.decompress(data, PIECE_BYTES)
    except zlib.error as error:
        raise MalformedRequest(
            f"the body is not {coding} though Content-Encoding says so, or is damaged ({error}); "
            "pack it again, or leave the header out"
        ) from None


def _next_member(coding: str, num_members: int) -> zlib._Decompress:
    if coding != "gzip":
        raise MalformedRequest(f"the body goes on after the end of its {coding} data; send one stream")
    if num_members >= MAX_MEMBERS:
        raise MalformedRequest(f"the body has more than {MAX_MEMBERS} gzip members; pack it as one")
    return zlib.decompressobj(_WINDOW_BITS[coding])
