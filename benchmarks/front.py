"""What does the HTTP front cost, and what did it cost in another tree? The forward pass is a pause of 2 ms.

Both trees serve the same tasks, each in a process of its own; one after the other they get the same requests
over kept connections. Compared is the CPU time of a request, of the event loop's thread and of all threads,
so that what else the machine does counts as little as can be; the wall time is told beside it, with whoever
sends the requests on the same cores. Above 1: this tree is faster.

    python -m benchmarks.front --before DIR [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from adapters_store import AdapterStore, write_adapter
from benchmarks import record
from benchmarks.requests import NUM_TASKS, drive
from benchmarks.tasks_on_disk import SPEC, manifest_of
from modeling import METHODS, Adapter, Backbone, load_backbone

NAME = "front"
Told = TypeVar("Told")
ROOT = Path(__file__).resolve().parent.parent
# (connections, texts of a request, requests of a round)
LOADS = ((1, 1, 400), (64, 1, 2_000), (64, 32, 320))
# Runs in the other tree too: names that both have. The pass gives zeros, which is what the probes expect.
WORKER = """
import sys, time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar
import numpy as np
from modeling.served import ServedModel
row = np.zeros(2, dtype=np.float32)
def run(self, encoded, body_slots, reads):
    time.sleep(0.002)
    return [row] * len(reads)
ServedModel.run = run
from service.server import serve
from service.settings import Settings
sys.exit(serve(Settings(backbone="minilm", store=Path(sys.argv[1]), port=int(sys.argv[2]), device="cpu",
                        log_level="warning")))
"""


def fill(root: Path, backbone: Backbone) -> None:
    """A store of tasks whose every logit is 0."""
    store = AdapterStore(root)
    adapter = Adapter.create(backbone, METHODS["hadamard"].from_config({}), SPEC, seed=0)
    tensors, probes = adapter.to_tensors(), [(f"probe {number}", [0.0, 0.0]) for number in range(8)]
    for number in range(NUM_TASKS):
        task = f"task-{number:02}"
        store.publish(task, write_adapter(manifest_of(task, backbone, adapter, probes), tensors))


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Until the service of a process is ready."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the server ended with status {process.returncode}")


def of_loads(
    services: Sequence[tuple[subprocess.Popen[bytes], int]],
    loads: Sequence[tuple[int, int, int]],
    compare: Callable[[tuple[int, int, int]], Told],
) -> dict[str, Told]:
    """What `compare` tells of each load, once all services (process, port) are ready; then they end."""
    found: dict[str, Told] = {}
    try:
        for process, port in services:
            wait_ready(process, port)
        for load in loads:
            name = f"{load[0]} connections, {load[1]} texts"
            found[name] = compare(load)
            print(f"{name:26}", json.dumps(found[name]), flush=True)
    finally:
        for process, _ in services:
            process.terminate()
            process.wait()
    return found


class Server:
    """A tree's service, and what its event loop has computed."""

    def __init__(self, tree: Path, store: Path) -> None:
        self.port = free_port()
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", WORKER, str(store), str(self.port)]
        self.process = subprocess.Popen(command, env=environment, cwd=tree)

    def spent_s(self) -> tuple[float, float]:
        """CPU seconds of the first thread, which runs the event loop, and of all threads."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        spent = {
            int(one.name): int((one / "schedstat").read_text().split()[0]) / 1e9 for one in tasks.iterdir()
        }
        return spent[self.process.pid], sum(spent.values())


def measured(server: Server, load: tuple[int, int, int], seed: int) -> dict[str, float]:
    """Microseconds of CPU a request, on the event loop and on all threads; wall microseconds a request."""
    before, started_s = server.spent_s(), time.perf_counter()
    uvloop.run(drive(server.port, load, seed))
    wall_s, after = time.perf_counter() - started_s, server.spent_s()
    per_request = 1e6 / (load[2] // load[0] * load[0])
    spent_s = {"loop": after[0] - before[0], "process": after[1] - before[1], "wall": wall_s}
    return {name: value * per_request for name, value in spent_s.items()}


def compare(servers: dict[str, Server], load: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Medians of all rounds; the trees take turns, the first one changes."""
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for seed in range(-2, rounds):  # two rounds warm up
        for name in sorted(servers, reverse=bool(seed % 2)):
            found = measured(servers[name], load, seed)
            if seed >= 0:
                spent[name].append(found)
    told: dict[str, float] = {}
    for what in ("loop", "process", "wall"):
        before, after = ([found[what] for found in spent[name]] for name in ("before", "after"))
        told[f"{what}_us_before"] = round(statistics.median(before), 1)
        told[f"{what}_us_after"] = round(statistics.median(after), 1)
        ratios = [one / other for one, other in zip(before, after, strict=True)]
        told[f"{what}_ratio"] = round(statistics.median(ratios), 3)
    return told


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the other tree")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--trial", action="store_true", help="print only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), load_backbone("minilm"))
        servers = {"before": Server(args.before.resolve(), Path(folder)), "after": Server(ROOT, Path(folder))}
        processes = [(server.process, server.port) for server in servers.values()]
        loads = of_loads(processes, LOADS, lambda load: compare(servers, load, args.rounds))
    if not args.trial:
        result = {"origin": record.origin(), "rounds": args.rounds, "pass_ms": 2, "loads": loads}
        print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
