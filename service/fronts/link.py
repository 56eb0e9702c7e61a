"""A front's end of its link to the device process: calls go out, answers come in, each finds its future."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import cast

from . import frames
from .frames import Answered, Frames
from .setup import Setup


class LinkLost(Exception):  # noqa: N818 - what happened
    """The device process has ended."""


class Link(asyncio.Protocol):
    """`setup` and `tokenizer` are what the device process tells; the latter once it has a backbone."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.setup: asyncio.Future[Setup] = loop.create_future()
        self.tokenizer: asyncio.Future[str] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._frames = Frames()
        self._numbers = itertools.count(1)
        self._open: dict[int, Future[Answered]] = {}

    def ask(
        self, received_s: float, request_id: bytes, body: bytes, ids: Mapping[str, Sequence[int]]
    ) -> tuple[int, Future[Answered]]:
        """Send a call: its number, and what will hold its answer, or LinkLost."""
        number, answered = next(self._numbers) & 0xFFFFFFFF, Future[Answered]()
        if self.lost.done():
            answered.set_exception(LinkLost())
            return number, answered
        self._open[number] = answered
        self._transport.write(frames.ask(number, received_s, request_id, body, ids))
        return number, answered

    def leave(self, number: int) -> None:
        """Nobody waits for the answer of this call any more."""
        if self._open.pop(number, None) is not None and not self.lost.done():
            self._transport.write(frames.frame(frames.LEFT, number))

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for kind, number, payload in self._frames.feed(data):
            if kind == frames.ANSWER:
                answered = self._open.pop(number, None)
                if answered is not None:
                    answered.set_result(frames.read_answer(payload))
            elif kind == frames.SETUP:
                self.setup.set_result(Setup.model_validate_json(payload))
            elif kind == frames.TOKENIZER:
                self.tokenizer.set_result(payload.decode())

    def connection_lost(self, _: Exception | None) -> None:
        self.lost.set_result(None)
        for answered in self._open.values():
            answered.set_exception(LinkLost())
        self._open.clear()
