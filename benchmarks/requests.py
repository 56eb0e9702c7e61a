"""Predict calls over kept connections, as fast as answers come. It imports nothing heavy: senders start fast.

python -m benchmarks.requests '[PORT, [CONNECTIONS, TEXTS, REQUESTS], SEED]'     prints the seconds
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

NUM_TASKS = 64
WORDS = ("lamp", "stays", "dark", "since", "monday", "nobody", "answers", "mail", "refund", "order", "four")


@dataclass
class Connection(asyncio.Protocol):
    """Sends its requests one after the other, each when the one before is answered."""

    requests: Sequence[bytes]
    ended: asyncio.Future[None]
    num_sent: int = 0
    received: bytearray = field(default_factory=bytearray)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.connection_lost(RuntimeError(bytes(self.received[:500]).decode()))
            return
        self.received.clear()
        if self.num_sent < len(self.requests):
            self._send()
        else:
            self.ended.set_result(None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or RuntimeError("the server closed the connection"))

    def _send(self) -> None:
        self.transport.write(self.requests[self.num_sent])
        self.num_sent += 1


def request_of(num_texts: int, rng: random.Random) -> bytes:
    """A predict call of texts of 4 to 24 words, to a random task."""
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(4, 24))) for _ in range(num_texts)]
    body = json.dumps({"task": f"task-{rng.randrange(NUM_TASKS):02}", "inputs": texts}).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


async def drive(port: int, load: tuple[int, int, int], seed: int) -> None:
    """One round of a load."""
    connections, num_texts, num_requests = load
    rng, loop = random.Random(seed), asyncio.get_running_loop()
    ended = []
    for _ in range(connections):
        own = [request_of(num_texts, rng) for _ in range(num_requests // connections)]
        connection = Connection(own, loop.create_future())
        ended.append(connection.ended)
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)  # type: ignore[misc]  # bound now
    await asyncio.gather(*ended)


def main(told: str) -> None:
    """A share of a round."""
    port, (connections, num_texts, num_requests), seed = json.loads(told)
    started_s = time.perf_counter()
    uvloop.run(drive(port, (connections, num_texts, num_requests), seed))
    print(time.perf_counter() - started_s)


if __name__ == "__main__":
    main(sys.argv[1])
