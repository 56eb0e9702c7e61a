"""What do front processes (`--workers`) take off the device process? The pass is a pause of 2 ms.

Services with 0, 1 and 2 fronts serve the same tasks and get the same requests in turns, within the same
minute, from processes of their own. Told is CPU time a request: of the device process, which is what bounds a
service with enough cores (`bound_per_s` is 1 / that), and of all fronts together; and the wall time, with
whoever sends the requests on the same cores.

    python -m benchmarks.front_processes [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import record
from benchmarks.front import ROOT, fill, free_port, of_loads
from modeling import load_backbone

NAME = "front_processes"
WORKERS = (0, 1, 2)
# (connections, texts of a request, requests of a round)
LOADS = ((1, 1, 200), (64, 1, 960), (256, 1, 1_280), (64, 32, 128))
SENDERS = 2
DEVICE = """
import sys, time
from pathlib import Path
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
                        dtype="float32", workers=int(sys.argv[3]), log_level="warning")))
"""


class Server:
    """A service with so many fronts."""

    def __init__(self, store: Path, workers: int) -> None:
        self.port = free_port()
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", DEVICE, str(store), str(self.port), str(workers)]
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT)

    def spent_s(self) -> tuple[float, float]:
        """CPU seconds of the device process and of its fronts."""
        own = self.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return _spent_s(own), sum(_spent_s(int(child)) for child in children)


def _spent_s(pid: int) -> float:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def send(port: int, load: tuple[int, int, int], seed: int) -> float:
    """A round of a load, from several processes: seconds until the last one had its last answer."""
    connections, num_texts, num_requests = load
    num_senders = min(SENDERS, connections)
    share = (connections // num_senders, num_texts, num_requests // num_senders)
    senders = []
    for one in range(num_senders):
        told = json.dumps([port, share, seed * SENDERS + one])
        command = [sys.executable, "-m", "benchmarks.requests", told]
        senders.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
    outputs = [sender.communicate()[0] for sender in senders]
    if any(sender.returncode for sender in senders):
        raise SystemExit("a request failed")
    return max(map(float, outputs))


def measured(server: Server, load: tuple[int, int, int], seed: int) -> dict[str, float]:
    """Microseconds of CPU a request, of the device process and of the fronts; wall microseconds a request."""
    before = server.spent_s()
    wall_s = send(server.port, load, seed)
    after = server.spent_s()
    spent_s = {"device": after[0] - before[0], "fronts": after[1] - before[1], "wall": wall_s}
    return {name: value * 1e6 / load[2] for name, value in spent_s.items()}


def compare(
    servers: dict[int, Server], load: tuple[int, int, int], rounds: int
) -> dict[str, dict[str, float]]:
    """Medians by number of fronts; they take turns, the first one changes."""
    spent: dict[int, list[dict[str, float]]] = {workers: [] for workers in servers}
    for seed in range(-1, rounds):  # a round warms up
        for workers in sorted(servers, reverse=bool(seed % 2)):
            found = measured(servers[workers], load, seed + 1)
            if seed >= 0:
                spent[workers].append(found)
    told: dict[str, dict[str, float]] = {}
    for workers, rows in spent.items():
        own = {f"{what}_us": statistics.median(row[what] for row in rows) for what in rows[0]}
        pairs = zip(spent[0], rows, strict=True)
        ratio = statistics.median(alone["device"] / row["device"] for alone, row in pairs)
        told[str(workers)] = {name: round(value, 1) for name, value in own.items()} | {
            "bound_per_s": round(1e6 / own["device_us"]),
            "device_ratio": round(ratio, 2),
        }
    return told


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--trial", action="store_true", help="print only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), load_backbone("minilm"))
        servers = {workers: Server(Path(folder), workers) for workers in WORKERS}
        processes = [(server.process, server.port) for server in servers.values()]
        loads = of_loads(processes, LOADS, lambda load: compare(servers, load, args.rounds))
    if not args.trial:
        result = {"origin": record.origin(), "rounds": args.rounds, "pass_ms": 2, "loads": loads}
        print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
