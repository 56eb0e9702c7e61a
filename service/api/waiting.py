"""Waiting for a job, and giving up when its client leaves. Knows futures and ASGI; of a job, that it ends."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial
from typing import Any

from starlette.types import Receive

# Clients that leave are looked for only when a request takes longer than this.
PATIENCE_S = 0.05


async def is_awaited(receive: Receive, done: Future[Any]) -> bool:
    """True when `done` is, False when the client has left before. Raises what `done` failed with.

    `done` is never cancelled: the thread that will set it knows nothing of that.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    done.add_done_callback(partial(_tell, loop, over))
    watches: list[asyncio.Task[None]] = []
    patience = loop.call_later(PATIENCE_S, lambda: watches.append(loop.create_task(_watch(receive, over))))
    try:
        await over
    finally:
        patience.cancel()
        for watch in watches:
            watch.cancel()
    if not done.done():
        return False
    done.result()
    return True


def _tell(loop: asyncio.AbstractEventLoop, over: asyncio.Future[None], _: Future[Any]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(_end, over)


async def _watch(receive: Receive, over: asyncio.Future[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    _end(over)


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
