"""A request as it came to the application on its Unix socket, and the answer as it comes back.

Knows HTTP/1.1 (RFC 9112) as far as both ends are ours: one request a connection, which ends with the answer.
Sockets are used bare, because an answer is to be read even if it came before the whole request was taken.
"""

from __future__ import annotations

import asyncio
import socket

import httptools
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 256 * 1024
# Of one connection (RFC 9110, 7.6.1), and what the front's own server says of its answers.
_OF_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"expect", b"te"}
)
_OF_SERVER = _OF_CONNECTION | {b"date"}


class Unreachable(Exception):  # noqa: N818 - what happened
    """The application did not answer."""


async def passed_on(path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Have the application at `path` answer, unless the caller leaves before.

    Raises Unreachable if it does not answer; then nothing was sent.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, path)
        except OSError as error:
            raise Unreachable(str(error)) from None
        asking = asyncio.create_task(_ask(connection, scope, receive))
        answering = asyncio.create_task(_answer(connection, send))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            answering.cancel()  # if it is not done, the caller has left
            await asyncio.gather(asking, answering, return_exceptions=True)
        for task in (answering, asking):
            if not task.cancelled():
                task.result()


async def _ask(connection: socket.socket, scope: Scope, receive: Receive) -> None:
    """Send the request; returns when the caller has left."""
    loop = asyncio.get_running_loop()
    headers = [pair for pair in scope["headers"] if pair[0] not in _OF_CONNECTION]
    names = [name for name, _ in scope["headers"]]
    in_chunks = b"transfer-encoding" in names and b"content-length" not in names
    headers += [(b"transfer-encoding", b"chunked")] * in_chunks + [(b"connection", b"close")]
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target), *map(b": ".join, headers)]
    piece, is_more, is_read = b"\r\n".join(lines) + b"\r\n\r\n", True, True
    while True:
        if piece and is_read:
            try:
                await loop.sock_sendall(connection, piece)
            except OSError:  # it has answered, and reads no more; the body goes on to nowhere
                is_read = False
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, was_more = message.get("body", b""), is_more
        is_more = message.get("more_body", False)
        piece = _chunk(body, is_last=was_more and not is_more) if in_chunks else body


def _chunk(body: bytes, *, is_last: bool) -> bytes:
    """A piece of a body whose length was not told (RFC 9112, 7.1)."""
    chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return chunk + b"0\r\n\r\n" if is_last else chunk


class _Response:
    """What the parser of the answer has found since it was last looked at."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = self.is_whole = False
        self.body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in _OF_SERVER:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


async def _answer(connection: socket.socket, send: Send) -> None:
    """Read the answer and send it on as it comes."""
    loop, response, has_begun = asyncio.get_running_loop(), _Response(), False
    parser = httptools.HttpResponseParser(response)
    while not response.is_whole:
        try:
            piece = await loop.sock_recv(connection, PIECE_BYTES)
        except OSError:
            piece = b""
        if not piece:
            break  # of a request by HEAD the answer has no body, whatever its length says
        parser.feed_data(piece)
        if response.has_head and not has_begun:
            has_begun, status = True, parser.get_status_code()
            await send({"type": "http.response.start", "status": status, "headers": response.headers})
        if response.body:
            await send({"type": "http.response.body", "body": response.body, "more_body": True})
            response.body = b""
    if not has_begun:
        raise Unreachable("it closed the connection")
    await send({"type": "http.response.body", "body": b""})
