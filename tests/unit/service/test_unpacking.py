"""Packed bodies: the same bytes come out whatever the pieces, none is too large, damage is told."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from service.api.body import JSON_TYPES, read_body
from service.api.unpacking import MAX_MEMBERS, PIECE_BYTES, coding_of, unpacked
from service.errors import MalformedRequest, TooLarge, UnsupportedMedia


def _pieces(data: bytes, coding: str, size: int = 65_536) -> list[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    async def gathered() -> list[bytes]:
        return [piece async for piece in unpacked(chunks(), coding)]

    return asyncio.run(gathered())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    st.sampled_from([0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES]),
    st.integers(1, 80),
)
def test_what_was_packed_comes_out(parts: list[bytes], num_zeros: int, size: int) -> None:
    """With runs of zeros around the size of a piece, in members, in chunks of any size."""
    parts = [*parts, b"\x00" * num_zeros]
    members = b"".join(map(gzip.compress, parts))
    whole = b"".join(parts)
    assert b"".join(_pieces(members, "gzip", size)) == whole
    assert b"".join(_pieces(zlib.compress(whole), "deflate", size)) == whole


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(1, 64))
def test_a_body_that_is_cut_or_goes_on_is_malformed(kept: int, size: int) -> None:
    for data, coding in (
        (gzip.compress(os.urandom(300)), "gzip"),
        (zlib.compress(os.urandom(300)), "deflate"),
    ):
        with pytest.raises(MalformedRequest, match=f"{coding} data is cut"):
            _pieces(data[:kept], coding, size)
        with pytest.raises(MalformedRequest):
            _pieces(data + b"and more", coding, size)


def test_damage_another_coding_and_many_members_are_malformed() -> None:
    data = bytearray(gzip.compress(b"a text " * 100))
    data[-6] ^= 1  # its checksum
    for damaged, coding in (
        (bytes(data), "gzip"),
        (b'{"task": 1}', "gzip"),
        (gzip.compress(b"a"), "deflate"),
    ):
        with pytest.raises(MalformedRequest, match=f"is not {coding} though Content-Encoding says so"):
            _pieces(damaged, coding)
    empty = gzip.compress(b"")
    assert _pieces(empty * MAX_MEMBERS, "gzip") == []
    with pytest.raises(MalformedRequest, match=f"more than {MAX_MEMBERS} gzip members"):
        _pieces(empty * (MAX_MEMBERS + 1), "gzip")


def test_no_piece_is_larger_than_said() -> None:
    bomb = gzip.compress(b"\x00" * 40 * PIECE_BYTES)
    assert max(map(len, _pieces(bomb, "gzip"))) == PIECE_BYTES


@pytest.mark.parametrize(
    ("headers", "coding"),
    [
        ([], None),
        ([""], None),
        (["identity"], None),
        (["gzip"], "gzip"),
        ([" GZIP "], "gzip"),
        (["x-gzip"], "gzip"),
        (["identity, gzip"], "gzip"),
        (["identity", "Deflate"], "deflate"),
    ],
)
def test_codings_that_are_understood(headers: list[str], coding: str | None) -> None:
    assert coding_of(headers) == coding


@pytest.mark.parametrize(
    "headers", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "deflate"], ["GZIP,br"], ["é"]]
)
def test_others_are_refused_by_name(headers: list[str]) -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        coding_of(headers)
    assert repr(", ".join(headers).lower().replace(",br", ", br")) in str(caught.value)
    assert "gzip, deflate" in str(caught.value)
    assert caught.value.accept_encoding == "gzip, deflate"


def _read(chunks: Iterable[bytes], max_bytes: int, **headers: str) -> tuple[bytes, int]:
    """The body, or the error; and how many chunks were taken."""
    left = [*chunks]
    num_chunks = len(left)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    listed = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    request = Request({"type": "http", "headers": [(b"content-type", b"application/json"), *listed]}, receive)
    try:
        body = asyncio.run(
            read_body(request, max_bytes=max_bytes, types=JSON_TYPES, setting="max_body_bytes")
        )
    except TooLarge as error:
        return str(error).encode(), num_chunks - len(left)
    return body, num_chunks


def test_the_limit_is_that_of_the_unpacked_body() -> None:
    packed = gzip.compress(b"\x00" * 5000)
    assert _read([packed], 5000, content_encoding="gzip")[0] == b"\x00" * 5000
    assert (
        b"more than 4999 bytes once its gzip is unpacked" in _read([packed], 4999, content_encoding="gzip")[0]
    )
    assert b"more than 9 bytes; send less" in _read([packed], 9, content_encoding="gzip")[0]
    noise = gzip.compress(os.urandom(900_000))
    chunks = [noise[start : start + 1000] for start in range(0, len(noise), 1000)]
    said, taken = _read(chunks, 20_000, content_encoding="gzip")
    assert b"more than 20000 bytes" in said
    assert taken < 40, "it stops where the limit is"
