"""Waiting for a job: it ends with the job or with the client, and leaves alone what another thread sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest

from service.api import waiting
from service.api.waiting import is_awaited


class Client:
    """Its side of a connection: leaves when it is told to."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)
        self.leaving = asyncio.Event()
        self.num_asked = 0

    async def receive(self) -> dict[str, Any]:
        self.num_asked += 1
        if self.messages:
            return {"type": self.messages.pop(0)}
        await self.leaving.wait()
        return {"type": "http.disconnect"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE_S", 0.0)


def run(check: Callable[[], Awaitable[None]]) -> None:
    """Nothing may be left on the loop."""

    async def whole() -> None:
        await check()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


def test_what_is_done_from_another_thread_ends_the_wait() -> None:
    async def check() -> None:
        client, done = Client(), Future[None]()
        waited = asyncio.create_task(is_awaited(client.receive, done))
        await asyncio.to_thread(done.set_result, None)
        assert await waited is True
        assert client.num_asked == 0  # patience was not at its end

    run(check)


def test_what_is_done_already_is_not_waited_for() -> None:
    async def check() -> None:
        done = Future[None]()
        done.set_result(None)
        assert await is_awaited(Client().receive, done) is True

    run(check)


@pytest.mark.usefixtures("impatient")
def test_a_client_that_leaves_ends_the_wait() -> None:
    async def check() -> None:
        client, done = Client("http.request", "http.request"), Future[None]()
        waited = asyncio.create_task(is_awaited(client.receive, done))
        await asyncio.sleep(0.02)
        assert (client.num_asked, waited.done()) == (3, False)
        client.leaving.set()
        assert await waited is False
        assert not done.cancelled()
        done.set_result(None)  # the device thread comes later and finds its future as it was

    run(check)


@pytest.mark.usefixtures("impatient")
def test_a_client_that_stays_is_answered_however_long_it_takes() -> None:
    async def check() -> None:
        client, done = Client(), Future[None]()
        waited = asyncio.create_task(is_awaited(client.receive, done))
        await asyncio.sleep(0.02)
        assert client.num_asked == 1
        await asyncio.to_thread(done.set_result, None)
        assert await waited is True

    run(check)


@pytest.mark.usefixtures("impatient")
def test_what_broke_the_job_is_raised_and_a_job_that_ended_first_counts() -> None:
    async def check() -> None:
        broken = Future[None]()
        broken.set_exception(ValueError("a bug"))
        with pytest.raises(ValueError, match="a bug"):
            await is_awaited(Client().receive, broken)
        client, done = Client(), Future[None]()
        waited = asyncio.create_task(is_awaited(client.receive, done))
        await asyncio.sleep(0.02)
        client.leaving.set()
        done.set_result(None)  # in the same turn of the loop
        assert await waited is True

    run(check)


@pytest.mark.usefixtures("impatient")
def test_a_wait_that_is_cancelled_leaves_the_job_to_its_thread() -> None:
    async def check() -> None:
        done = Future[None]()
        waited = asyncio.create_task(is_awaited(Client().receive, done))
        await asyncio.sleep(0.02)
        waited.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waited
        assert not done.cancelled()
        done.set_result(None)

    run(check)


def test_a_job_that_ends_after_its_loop_harms_nobody() -> None:
    done = Future[None]()

    async def leave() -> None:
        waited = asyncio.create_task(is_awaited(Client().receive, done))
        await asyncio.sleep(0)
        waited.cancel()

    asyncio.run(leave())
    done.set_result(None)  # a callback that raised would be logged, and fail this test
