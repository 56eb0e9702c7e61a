"""The device process's end of its link to one front: calls come in, answers go out. Owned by the event loop.

A call begins and ends as one that came over HTTP does (`api/predict.py`), without a task for it: what it
waits for is its job, and the jobs of a batch are done together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from starlette.responses import Response

from ..api.errors import STATUS_CLIENT_LEFT, response_of
from ..api.predict import Call, answer, answer_now, begin, end
from ..logs import request_id
from ..state import Parts, Service
from . import frames
from .frames import Asked, Frames
from .front import PATH


@dataclass(slots=True, eq=False)
class _Open:
    """A call that was begun."""

    asked: Asked
    parts: Parts
    call: Call


class Calls(asyncio.Protocol):
    """`begun` is called with what to send first, when the link is there."""

    def __init__(self, service: Service, begun: Callable[[asyncio.Transport], None]) -> None:
        self._service, self._begun = service, begun
        self._loop = asyncio.get_running_loop()
        self._frames = Frames()
        self._open: dict[int, _Open] = {}
        self._done: deque[int] = deque()  # finished on any thread, not answered yet
        self._is_woken = False
        self._answers: list[bytes] = []
        self._building: set[asyncio.Task[None]] = set()

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._begun(self._transport)

    def data_received(self, data: bytes) -> None:
        num_calls = 0
        for kind, number, payload in self._frames.feed(data):
            if kind == frames.ASK:
                num_calls += 1
                self._begin(number, frames.read_ask(payload))
            elif kind == frames.LEFT:
                self._leave(number)
        self._service.metrics.front_calls.inc(num_calls)
        self._flush()

    def connection_lost(self, _: Exception | None) -> None:
        """The front has gone, and with it everyone who asked through it."""
        for number in list(self._open):
            self._leave(number)

    # ---- a call

    def _begin(self, number: int, asked: Asked) -> None:
        self._service.num_in_flight += 1
        request_id.set(asked.request_id)
        try:
            parts = self._service.parts
            call = begin(self._service, parts, asked.body, asked.ids)
        except Exception as error:
            self._tell(number, asked, response_of(error))
            return
        self._open[number] = _Open(asked, parts, call)
        call.job.done.add_done_callback(partial(self._note, number))

    def _note(self, number: int, _: object) -> None:
        """On the thread that finished a job: have it answered, and whatever is finished until then."""
        self._done.append(number)
        if not self._is_woken and not self._loop.is_closed():
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._answer_all)

    def _answer_all(self) -> None:
        self._is_woken = False  # before looking: what is noted from now on wakes again
        while self._done:
            number = self._done.popleft()
            one = self._open.get(number)
            if one is None:  # its caller has left
                continue
            if one.call.is_small:
                self._answer(number, one)
            else:
                task = self._loop.create_task(self._answer_large(number, one))
                self._building.add(task)
                task.add_done_callback(self._building.discard)
        self._flush()

    def _answer(self, number: int, one: _Open) -> None:
        request_id.set(one.asked.request_id)
        try:
            response = answer_now(self._service, one.call)
        except Exception as error:
            response = response_of(error)
        self._end(number, one, response)

    async def _answer_large(self, number: int, one: _Open) -> None:
        request_id.set(one.asked.request_id)
        try:
            response = await answer(self._service, one.call)
        except Exception as error:
            response = response_of(error)
        if number in self._open:
            self._end(number, one, response)
            self._flush()

    def _end(self, number: int, one: _Open, response: Response) -> None:
        self._close(number, one)
        self._tell(number, one.asked, response)

    def _leave(self, number: int) -> None:
        """The caller of this call has left."""
        one = self._open.get(number)
        if one is None:
            return
        self._close(number, one)
        self._service.metrics.cancelled.inc()
        self._count(one.asked, STATUS_CLIENT_LEFT)

    def _close(self, number: int, one: _Open) -> None:
        del self._open[number]
        end(one.parts, one.call)

    def _tell(self, number: int, asked: Asked, response: Response) -> None:
        self._answers.append(
            frames.answer(number, response.status_code, response.raw_headers, bytes(response.body))
        )
        self._count(asked, response.status_code)

    def _count(self, asked: Asked, status: int) -> None:
        self._service.num_in_flight -= 1
        self._service.metrics.count_request(PATH, status, time.perf_counter() - asked.received_s)

    def _flush(self) -> None:
        if self._answers:
            self._transport.write(b"".join(self._answers))
            self._answers.clear()
