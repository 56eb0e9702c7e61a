"""Front processes as children of the device process: started, told what they need, started again, ended.

Each has listening sockets of its own on the one address (SO_REUSEPORT), so that the kernel spreads
connections over them. This process keeps them open: what arrives while a front is started again waits there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..state import Service
from . import frames
from .calls import Calls
from .setup import Setup

if TYPE_CHECKING:
    from modeling.text import TextEncoder

log = logging.getLogger(__name__)

_BACKLOG = 2048
_PAUSES_S = (0.1, 0.5, 2.0, 5.0)  # before a front that did not live long is started again
_LONG_S = 60.0
_END_S = 8.0  # a front that has not ended by itself until then is killed
_ROOT = str(Path(__file__).resolve().parent.parent.parent)
_NAME = "http"


def listeners(host: str, port: int, number: int) -> list[list[socket.socket]]:
    """For each of so many fronts, sockets that listen on every address of the host. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    every: list[list[socket.socket]] = []
    for _ in range(number):
        own = []
        for family, (name, _, *rest) in addresses:
            own.append(_listener(family, (name, port, *rest)))
            port = port or own[0].getsockname()[1]  # all have the port that was free for the first
        every.append(own)
    return every


def _listener(family: int, address: tuple[object, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind(address)
    one.listen(_BACKLOG)
    return one


@contextlib.contextmanager
def application_socket() -> Iterator[socket.socket]:
    """A listening Unix socket in a folder of its own, which nobody else can enter; gone at the end.

    Raises ConfigurationError where there can be none.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="trunkline-")
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.bind(str(Path(folder.name) / _NAME))
        one.listen(_BACKLOG)
    except OSError as error:
        why = error.strerror or error
        raise ConfigurationError(
            f"the socket for front processes cannot be made in the folder for temporary files ({why}): "
            "set TMPDIR to a short path of a folder that can be written, or workers to 0"
        ) from None
    with folder, one:
        yield one


class Fronts:
    """The fronts of a service; `http` is the path of the application's Unix socket."""

    def __init__(self, service: Service, every: Sequence[Sequence[socket.socket]], http: str) -> None:
        self._service, self._every = service, every
        self._setup = Setup.of(service.settings, service.token, http)
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._links: set[asyncio.Transport] = set()
        self._tokenizer: bytes | None = None
        self._is_ending = False
        service.metrics.fronts.set_function(lambda: len(self._links))

    async def keep(self) -> None:
        """Start every front, and again whichever ends; returns after `end`."""
        async with asyncio.TaskGroup() as group:
            for number, sockets in enumerate(self._every):
                group.create_task(self._keep_one(number, sockets))

    def tell_tokenizer(self, text: TextEncoder) -> None:
        """Give every front, now and later, the backbone's tokenizer."""
        # What a TextEncoder was made of: a front may not import it, since its package needs torch.
        self._tokenizer = frames.frame(frames.TOKENIZER, payload=text._tokenizer.to_str().encode())
        for link in self._links:
            link.write(self._tokenizer)

    async def end(self) -> None:
        """Have every front answer what it has, and end."""
        self._is_ending = True
        self._signal(signal.SIGTERM)
        deadline_s = time.monotonic() + _END_S
        while self._running and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End every front at once."""
        self._is_ending = True
        self._signal(signal.SIGKILL)

    def vanish(self) -> None:
        """Leave nothing behind, for a process that ends here and now."""
        self.kill()
        shutil.rmtree(Path(self._setup.http).parent, ignore_errors=True)

    def _signal(self, number: int) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep_one(self, number: int, sockets: Sequence[socket.socket]) -> None:
        num_short = 0
        while not self._is_ending:
            started_s = time.monotonic()
            try:
                status: int | str = await self._live(number, sockets)
            except OSError as error:  # no memory or no process left on this machine
                status = str(error)
            if self._is_ending:
                return
            num_short = 0 if time.monotonic() - started_s > _LONG_S else num_short + 1
            pause_s = _PAUSES_S[min(num_short, len(_PAUSES_S)) - 1] if num_short else 0.0
            told = {"front": number, "status": status, "pause_s": pause_s}
            log.error("a front process ended, and is started again", extra=told)
            self._service.metrics.front_restarts.inc()
            await asyncio.sleep(pause_s)

    async def _live(self, number: int, sockets: Sequence[socket.socket]) -> int:
        """One life of a front: its exit status."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            given = [theirs.fileno(), *(one.fileno() for one in sockets)]
            # -P: the current folder is not searched. A session of its own: Ctrl-C is for this process alone.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "service.fronts", *map(str, given)),
                pass_fds=given,
                start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
            )
        self._running[number] = process
        loop = asyncio.get_running_loop()
        link, _ = await loop.create_unix_connection(lambda: Calls(self._service, self._greet), sock=ours)
        log.info("a front process serves", extra={"front": number, "pid": process.pid})
        try:
            return await process.wait()
        finally:
            del self._running[number]
            self._links.discard(link)
            link.close()

    def _greet(self, link: asyncio.Transport) -> None:
        link.write(frames.frame(frames.SETUP, payload=self._setup.model_dump_json().encode()))
        if self._tokenizer is not None:
            link.write(self._tokenizer)
        self._links.add(link)


def _environment() -> dict[str, str]:
    """Ours, in which this very program comes first; without what is only for a process that computes."""
    named = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    here = Path.cwd().resolve()
    others = [one for one in named if Path(one).resolve() != here]
    return os.environ | {"PYTHONPATH": os.pathsep.join([_ROOT, *others])}
