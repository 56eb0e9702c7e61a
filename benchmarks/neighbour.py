"""What is left of a service's throughput beside one busy process, and what do calm threads cost without one?

Two servers of minilm with the same 64 Hadamard tasks, one as it starts by itself, one with the settings of
before (threads that spin at barriers, and every pass on all cores). Single texts are asked over kept
connections; for each number of them both servers are measured alone and beside a process that computes
without end, one after the other, many rounds. Ratios of each round, medians.

    python -m benchmarks.neighbour [--rounds 9] [--seconds 3]
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import others, record, turns
from benchmarks.tasks_on_disk import Files, fill, name_of
from modeling import load_backbone
from service.machine import cores, processors
from trunkline.client import Client

NAME = "neighbour"
CONNECTIONS = (1, 64)
NUM_TASKS = 64
WORDS = (__doc__ or "").split()
SPINNING = {"GOMP_SPINCOUNT": "300000", "TRUNKLINE_DEVICE_THREADS": str(cores(processors()))}
"""OpenMP's own count where nothing is said, and torch's own number of threads."""
OLD, CALM = "before", "calm"
BUSY = "while True: pass"


@contextmanager
def server(store: Path, log: Path, more: dict[str, str]) -> Iterator[tuple[str, int, int]]:
    """A server of its own: host, port and process id."""
    environ = {
        name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))
    }
    command = [sys.executable, "-m", "service", "serve", "--backbone", "minilm", "--port", "0"]
    with log.open("wb") as told:
        process = subprocess.Popen(
            [*command, "--store", str(store), "--dtype", "float32"], stderr=told, env=environ | more
        )
    try:
        while "running on http://" not in log.read_text():
            if process.poll() is not None:
                raise SystemExit(f"the server did not start: {log.read_text()}")
            time.sleep(0.1)
        host, _, port = log.read_text().partition("running on http://")[2].split()[0].partition(":")
        with Client(f"http://{host}:{port}") as client:
            client.wait_ready(300)
        yield host, int(port), process.pid
    finally:
        process.kill()
        process.wait()


class Neighbour:
    """A process that computes without end, unless it is stopped."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", BUSY])
        self.rest()

    def rest(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def work(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


async def answered(host: str, port: int, connections: int, seconds: float, seed: int) -> float:
    """Requests a second over so many connections, each asking again as soon as it is answered."""
    end_s = time.perf_counter() + seconds
    counts = await asyncio.gather(*(_ask(host, port, end_s, f"{seed}.{i}") for i in range(connections)))
    return sum(counts) / seconds


async def _ask(host: str, port: int, end_s: float, seed: str) -> int:
    rng = random.Random(seed)
    reader, writer = await asyncio.open_connection(host, port)
    count = 0
    while time.perf_counter() < end_s:
        num_words = min(80, max(3, round(rng.lognormvariate(2.7, 0.7))))
        body = {
            "task": name_of(rng.randrange(NUM_TASKS)),
            "inputs": " ".join(rng.choices(WORDS, k=num_words)),
        }
        data = json.dumps(body).encode()
        head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        told = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(told.partition("content-length:")[2].split()[0]))
        assert " 200 " in told.partition("\r\n")[0], told
        count += time.perf_counter() < end_s
    writer.close()
    return count


def measure(rounds: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Requests a second of both servers, alone and beside the neighbour, and their ratios."""
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ways = {OLD: SPINNING, CALM: {}}
        servers = {}
        for name, more in ways.items():
            copy = folder / name
            fill(copy, Files(load_backbone("minilm")), NUM_TASKS)
            servers[name] = stack.enter_context(server(copy, folder / f"{name}.log", more))
        neighbour = Neighbour()
        stack.callback(neighbour.end)
        pids = [pid for *_, pid in servers.values()]
        stolen = []
        for turn in range(rounds + 1):
            with others.watched(*pids, neighbour.pid) as found:
                for key, rate in _one_round(servers, neighbour, seconds, turn):
                    if turn:  # the first warms everything up
                        rates.setdefault(key, []).append(rate)
            stolen.append(found.cores)
    return {
        "origin": record.origin(),
        "rounds": rounds,
        "tasks": NUM_TASKS,
        "requests_per_s": {key: round(statistics.median(own), 1) for key, own in rates.items()},
        "others_busy_cores": round(statistics.median(stolen), 2),
        "disturbed": statistics.median(stolen) > others.DISTURBED_CORES,
        "throughput_ratios": _ratios(rates),
    }


def _one_round(
    servers: dict[str, tuple[str, int, int]], neighbour: Neighbour, seconds: float, turn: int
) -> Iterator[tuple[str, float]]:
    for connections in CONNECTIONS:
        for place in ("alone", "beside"):
            (neighbour.work if place == "beside" else neighbour.rest)()
            for name, (host, port, _) in servers.items():
                rate = asyncio.run(answered(host, port, connections, seconds, turn))
                yield f"{name}, {place}, {connections}", rate
    neighbour.rest()


def _ratios(rates: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    seconds = {key: [1 / max(rate, 0.1) for rate in own] for key, own in rates.items()}
    found = {}
    for n in CONNECTIONS:
        for name in (OLD, CALM):
            key = f"{name}: beside a neighbour / alone, {n} connections"
            found[key] = turns.ratio(seconds, f"{name}, beside, {n}", f"{name}, alone, {n}")
        for place in ("alone", "beside"):
            key = f"{CALM} / {OLD}, {place}, {n} connections"
            found[key] = turns.ratio(seconds, f"{CALM}, {place}, {n}", f"{OLD}, {place}, {n}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = measure(args.rounds, args.seconds, Path(name))
    turns.print_ratios(result)
    print({name: result[name] for name in ("requests_per_s", "others_busy_cores", "disturbed")})
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
