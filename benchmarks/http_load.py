"""Requests over kept connections: as fast as answers come (closed loop), or at random times (open loop)."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Answered:
    """How long each answer took, and all of them together, with those that were waited for at the end."""

    took_s: list[float] = field(default_factory=list)
    all_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.took_s) / self.all_s

    def ms(self, percent: float) -> float:
        """That so many percent of the answers were quicker than."""
        return 1000 * float(np.percentile(self.took_s, percent)) if self.took_s else 0.0


def post(path: str, body: object) -> bytes:
    """A request."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> bytes:
        """The answer's body. Raises RuntimeError unless it is a good one."""
        self._writer.write(request)
        told = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        body = await self._reader.readexactly(int(told.partition("content-length:")[2].split()[0]))
        if " 200 " not in told.partition("\r\n")[0]:
            raise RuntimeError(f"{told}{body[:500].decode()}")
        return body

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def closed(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Answered:
    """Every connection asks again when it was answered."""
    found, kept = Answered(), [await Connection.to(port) for _ in range(connections)]
    start_s = time.perf_counter()
    end_s = start_s + seconds
    await asyncio.gather(*(_again(one, requests, i, end_s, found) for i, one in enumerate(kept)))
    found.all_s = time.perf_counter() - start_s
    for one in kept:
        await one.close()
    return found


async def _again(
    connection: Connection, requests: Sequence[bytes], number: int, end_s: float, found: Answered
) -> None:
    rng = random.Random(number)
    while (start_s := time.perf_counter()) < end_s:
        await connection.ask(rng.choice(requests))
        found.took_s.append(time.perf_counter() - start_s)


async def open_loop(
    port: int, requests: Sequence[bytes], per_s: float, seconds: float, seed: int
) -> Answered:
    """Requests at the times of a Poisson process; what waits for a connection counts as waiting."""
    found, rng, free = Answered(), random.Random(seed), list[Connection]()
    start_s = due_s = time.perf_counter()

    async def one(due_s: float, request: bytes) -> None:
        connection = free.pop() if free else await Connection.to(port)
        await connection.ask(request)
        found.took_s.append(time.perf_counter() - due_s)
        free.append(connection)

    running = []
    while (due_s := due_s + rng.expovariate(per_s)) < start_s + seconds:
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        running.append(asyncio.create_task(one(due_s, rng.choice(requests))))
    await asyncio.gather(*running)
    found.all_s = time.perf_counter() - start_s
    for connection in free:
        await connection.close()
    return found
