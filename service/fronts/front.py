"""The application of a front: which way a request goes, and its answer. It refuses nothing.

A plain predict call goes as a frame: one that the access rules let through, that no web page sent, with a
body of known and moderate length, in JSON and not packed. The application of the device process answers all
others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

from ..api.auth import check_access
from ..api.identity import identity_of
from ..api.problems import problem
from ..api.waiting import is_awaited
from ..errors import NotReady, ServiceError
from ..logs import request_id
from .link import Link, LinkLost
from .passing import Unreachable, passed_on
from .setup import Setup
from .texts import Ids, Texts

PATH = "/v1/predict"
_NOT_PLAIN = frozenset({b"origin", b"content-encoding", b"transfer-encoding", b"expect"})


class Front:
    """ASGI; `texts` is there once the device process has a backbone."""

    def __init__(self, link: Link, setup: Setup) -> None:
        self._link, self._setup = link, setup
        self._paths = frozenset(
            {PATH, f"{setup.root_path}{PATH}"}
        )  # a proxy cuts the prefix off, or does not
        self.texts: Texts | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received_s = time.perf_counter()
        headers = dict(scope["headers"])
        identity = identity_of(headers)
        try:
            if self._is_plain(scope, headers):
                await self._predict(received_s, identity, receive, send)
            else:
                await passed_on(self._setup.http, scope, receive, send)
        except (LinkLost, Unreachable):
            await self._say_lost(identity, scope, receive, send)

    def _is_plain(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        if scope["method"] != "POST" or scope["path"] not in self._paths:
            return False
        if len(headers) != len(scope["headers"]) or not _NOT_PLAIN.isdisjoint(headers):
            return False
        length, kind = headers.get(b"content-length", b""), headers.get(b"content-type", b"")
        is_moderate = length.isdigit() and len(length) < 10 and int(length) <= self._setup.max_body_bytes
        if not is_moderate or kind.partition(b";")[0].strip().lower() != b"application/json":
            return False
        try:
            check_access(PATH, headers, self._setup.token, method="POST")
        except ServiceError:  # the application will say so
            return False
        return True

    async def _predict(self, received_s: float, identity: bytes, receive: Receive, send: Send) -> None:
        body = await _whole(receive)
        if body is None:
            return
        ids: Ids = {} if self.texts is None else await self.texts.ids_of(body)
        number, answered = self._link.ask(received_s, identity, body, ids)
        try:
            if not await is_awaited(receive, answered):
                return
        finally:
            self._link.leave(number)
        status, headers, content = answered.result()
        headers = [*headers, (b"x-request-id", identity)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _say_lost(self, identity: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """503: this front will end, too."""
        marked = request_id.set(identity.decode())
        detail = "the process that owns the device has ended; send the request to another service, or again"
        headers = {"Retry-After": "1", "X-Request-ID": identity.decode()}
        lost = problem(NotReady.status, NotReady.code, NotReady.title, detail, headers=headers)
        await lost(scope, receive, send)
        request_id.reset(marked)


async def _whole(receive: Receive) -> bytes | None:
    """A body; None if its caller left before it was whole."""
    pieces: list[bytes] = []
    is_more = True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        is_more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
