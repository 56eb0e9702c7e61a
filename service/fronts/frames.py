"""What travels between a front and the device process. Pure: values to bytes and back; both are one build.

    frame   payload bytes u32, kind u8, number of the call u32, payload
    ASK     time of arrival f64, lengths (request id u8, body u32), number of texts u32, then id and body; for
            each text the lengths of its UTF-8 and of its ids as i32; all ids as i32; all texts
    ANSWER  status u16, bytes of headers u32, headers as `name:value` lines, body
    LEFT    nothing: the caller of that call has gone
    SETUP, TOKENIZER   JSON, of no call

Numbers are in the machine's own order. The time is that of `time.perf_counter`, one clock for all processes.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

ASK, ANSWER, LEFT, SETUP, TOKENIZER = range(5)

_HEAD = struct.Struct("=IBI")
_ASK = struct.Struct("=dBII")
_ANSWER = struct.Struct("=HI")
_INT_BYTES = 4
assert array("i").itemsize == _INT_BYTES, "ids travel as 32-bit numbers; this is a bug"

Headers = Sequence[tuple[bytes, bytes]]


class Asked(NamedTuple):
    """A predict call as a front sends it: `ids` are those of texts that it found in the body."""

    received_s: float
    request_id: str
    body: bytes
    ids: dict[str, list[int]]


class Answered(NamedTuple):
    """What its caller gets."""

    status: int
    headers: Headers
    body: bytes


class Frames:
    """Whole frames out of the pieces in which they arrive."""

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterator[tuple[int, int, bytes]]:
        """Kind, number and payload of every frame that is whole now."""
        if self._left:
            self._left += data
            data = self._left if self._is_whole() else b""
        start = 0
        while len(data) - start >= _HEAD.size:
            num_bytes, kind, number = _HEAD.unpack_from(data, start)
            end = start + _HEAD.size + num_bytes
            if end > len(data):
                break
            payload = bytes(data[start + _HEAD.size : end])
            start = end
            yield kind, number, payload
        if data:
            self._left = bytearray(data[start:])

    def _is_whole(self) -> bool:
        """Whether the first frame of what is left has all its bytes."""
        left = self._left
        return len(left) >= _HEAD.size and len(left) >= _HEAD.size + _HEAD.unpack_from(left)[0]


def frame(kind: int, number: int = 0, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(len(payload), kind, number) + payload


def ask(
    number: int, received_s: float, request_id: bytes, body: bytes, ids: Mapping[str, Sequence[int]]
) -> bytes:
    """A call as a frame; the texts of `ids` hold no lone surrogate."""
    texts = [text.encode() for text in ids]
    lengths, numbers = array("i"), array("i")
    for text, own in zip(texts, ids.values(), strict=True):
        lengths.extend((len(text), len(own)))
        numbers.extend(own)
    head = _ASK.pack(received_s, len(request_id), len(body), len(texts))
    return frame(
        ASK, number, b"".join((head, request_id, body, lengths.tobytes(), numbers.tobytes(), *texts))
    )


def read_ask(payload: bytes) -> Asked:
    received_s, num_id, num_body, num_texts = _ASK.unpack_from(payload)
    body_at = _ASK.size + num_id
    lengths_at = body_at + num_body
    numbers_at = lengths_at + 2 * _INT_BYTES * num_texts
    lengths, numbers = array("i"), array("i")
    lengths.frombytes(payload[lengths_at:numbers_at])
    text_at = numbers_at + _INT_BYTES * sum(lengths[1::2])
    numbers.frombytes(payload[numbers_at:text_at])
    listed, first, ids = numbers.tolist(), 0, {}
    for place in range(0, 2 * num_texts, 2):
        num_bytes, num_ids = lengths[place], lengths[place + 1]
        ids[payload[text_at : text_at + num_bytes].decode()] = listed[first : first + num_ids]
        text_at, first = text_at + num_bytes, first + num_ids
    return Asked(received_s, payload[_ASK.size : body_at].decode(), payload[body_at:lengths_at], ids)


def answer(number: int, status: int, headers: Headers, body: bytes) -> bytes:
    """An answer as a frame; no header holds a line break."""
    lines = b"\n".join([name + b":" + value for name, value in headers])
    return frame(ANSWER, number, _ANSWER.pack(status, len(lines)) + lines + body)


def read_answer(payload: bytes) -> Answered:
    status, num_lines = _ANSWER.unpack_from(payload)
    body_at = _ANSWER.size + num_lines
    headers = []
    for line in payload[_ANSWER.size : body_at].split(b"\n") if num_lines else ():
        name, _, value = line.partition(b":")
        headers.append((name, value))
    return Answered(status, headers, payload[body_at:])
