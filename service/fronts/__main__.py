"""The process of one front: `python -m service.fronts LINK LISTENER...`, with numbers of inherited sockets.

It ends when the device process has ended, or tells it to with SIGTERM: then what is under way is answered
first. It knows no backbone and imports nothing of one.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Sequence

import uvicorn
import uvloop

from .. import logs
from .front import Front
from .link import Link
from .setup import Setup
from .texts import Texts

log = logging.getLogger("service.fronts")  # this module is called __main__

EXIT_OK, EXIT_FAILED = 0, 1
ANSWER_S = 5  # as long as what is under way has after SIGTERM, when the device process has answered


async def run(link_socket: socket.socket, listeners: list[socket.socket]) -> int:
    """Serve until SIGTERM (0), or until the device process ends (1)."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(Link, sock=link_socket)
    await asyncio.wait((link.setup, link.lost), return_when=asyncio.FIRST_COMPLETED)
    if not link.setup.done():
        return EXIT_FAILED
    setup = link.setup.result()
    logs.configure(setup.log_level)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger("uvicorn").level))
    front = Front(link, setup)
    server = _server(front)

    def end(_: asyncio.Future[None]) -> None:
        if not server.should_exit:
            log.error("the device process has ended, and this front with it", extra={"front": os.getpid()})
        server.should_exit = True

    link.lost.add_done_callback(end)
    filling = asyncio.create_task(_fill(front, link, setup))
    gc.freeze()
    try:
        await server.serve(sockets=listeners)
    finally:
        filling.cancel()
    return EXIT_FAILED if link.lost.done() else EXIT_OK


def _server(front: Front) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            front,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=ANSWER_S,
        )
    )


async def _fill(front: Front, link: Link, setup: Setup) -> None:
    """The tokenizer, once the device process has one; until then it turns texts into ids itself."""
    tokenizer = await link.tokenizer
    front.texts = await asyncio.to_thread(Texts, tokenizer, setup.tokenizer_threads)


def main(numbers: Sequence[str]) -> int:
    """Returns the exit status."""
    logs.configure("info")
    link, *listeners = (socket.socket(fileno=int(number)) for number in numbers)
    return uvloop.run(run(link, listeners))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
