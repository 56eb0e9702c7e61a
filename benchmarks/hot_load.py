"""How long is a start with many tasks, how soon does an upload answer, and who waits for it?

Start: seconds from the process to `/ready` with N tasks, the first time and again, when the files are known;
of an older version too, if its checkout is given (`--against FOLDER`; same store, turn by turn). Upload: from
the first byte sent to the first correct answer of a server on this machine, idle and at half the load that it
can bear; and how long others wait, at that load, with an upload every second and without (p99). The client is
a process of its own. How much of the processor others took meanwhile is told with each.

    python -m benchmarks.hot_load [--tasks 300] [--rounds 3] [--uploads 15] [--seconds 20] [--against FOLDER]
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import record
from benchmarks.tasks_on_disk import Files, fill, name_of, probe_texts
from modeling import load_backbone

NAME = "hot_load"
HERE = Path(__file__).resolve().parents[1]
RESIDENTS = 64  # tasks of the server that is uploaded to
CONNECTIONS = 16
ROUNDED = 0.05  # how far logits may be from those of float32 where the server chose bfloat16


@contextmanager
def server(code: Path, store: Path) -> Iterator[tuple[httpx.Client, float, int]]:
    """A server of the code in a folder: its client, seconds until it was ready, and its process id."""
    environment = {**os.environ, "PYTHONPATH": str(code)}
    command = [sys.executable, "-P", "-m", "service", "serve", "--port", "0", "--store", str(store)]
    command += ["--backbone", "minilm", "--max-adapters", "1000000"]
    log = store.parent / "server.log"
    started_s = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file, env=environment, cwd=store.parent)
    try:
        url = _when(lambda: _url(log.read_text()), process)
        with httpx.Client(base_url=url, timeout=120) as client:
            _when(lambda: client.get("/ready").status_code == 200, process)
            yield client, time.perf_counter() - started_s, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _when(told: Any, process: subprocess.Popen[bytes]) -> Any:
    while not (found := told()):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        time.sleep(0.005)
    return found


def _url(log: str) -> str | None:
    _, found, rest = log.partition("Uvicorn running on ")
    return rest.split()[0] if found else None


class Others:
    """How much of the processor other processes take from now on; those that we started must have ended."""

    def __init__(self) -> None:
        self._since = time.perf_counter(), _busy_s(), sum(os.times()[:4])

    def share(self) -> float:
        """Of all cores."""
        clock_s, busy_s, own_s = self._since
        passed_s = (time.perf_counter() - clock_s) * (os.cpu_count() or 1)
        return round(max(0.0, _busy_s() - busy_s - (sum(os.times()[:4]) - own_s)) / passed_s, 2)


def _busy_s() -> float:
    try:
        numbers = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def memory_bytes(process: int) -> int:
    line = next(one for one in Path(f"/proc/{process}/status").read_text().splitlines() if "VmRSS" in one)
    return int(line.split()[1]) * 1024


def starts(files: Files, folder: Path, num_tasks: int, rounds: int, against: Path | None) -> dict[str, Any]:
    """Seconds of each kind of start, and what a task costs of the host's memory."""
    few, many = folder / "few" / "store", folder / "many" / "store"
    for store, count in ((few, 1), (many, num_tasks)):
        store.parent.mkdir()
        fill(store, files, count)
    seconds: dict[str, list[float]] = {"first": [], "again": [], "older": [], "one task": []}
    per_task: list[float] = []
    others = Others()
    told: dict[str, int] = {}
    for _ in range(rounds):
        for name, code, store in (
            ("older", against, many),
            ("first", HERE, many),
            ("again", HERE, many),
            ("one task", HERE, few),
        ):
            if code is None:
                continue
            if name == "first":
                (store / "proofs").unlink(missing_ok=True)
            with server(code, store) as (client, ready_s, process):
                seconds[name].append(ready_s)
                told[name] = memory_bytes(process)
                if name == "again":
                    resident = client.get("/v1/info").json()["adapters"]
        per_task.append((told["again"] - told["one task"]) / max(1, num_tasks - 1))
    medians = {name: round(statistics.median(one), 2) for name, one in seconds.items() if one}
    tensors = resident["bytes"] / resident["resident"]
    found: dict[str, Any] = {"tasks": num_tasks, "seconds": medians}
    found["host_bytes_per_task_over_bank_bytes"] = round(statistics.median(per_task) / tensors, 2)
    found["processor_taken_by_others"] = others.share()
    if against is not None:
        base = medians["one task"]
        found["older_over_again"] = round(medians["older"] / medians["again"], 2)
        found["older_over_again_without_the_backbone"] = round(
            (medians["older"] - base) / max(0.01, medians["again"] - base), 2
        )
    return found


class Load:
    """Requests at random times, so many a second, from threads; the seconds that each took."""

    def __init__(self, url: str, per_s: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_connections=None))
        self._per_s, self._rng, self._texts = per_s, random.Random(0), probe_texts()
        self._stop = threading.Event()
        self.seconds: list[float] = []

    def __enter__(self) -> "Load":
        self._pool = ThreadPoolExecutor(CONNECTIONS)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(wait=True)
        self._client.close()

    def _send(self) -> None:
        due_s = time.perf_counter()
        while not self._stop.is_set():
            due_s += self._rng.expovariate(self._per_s)
            time.sleep(max(0.0, due_s - time.perf_counter()))
            self._pool.submit(self._ask, due_s)

    def _ask(self, due_s: float) -> None:
        task, text = name_of(self._rng.randrange(RESIDENTS)), self._rng.choice(self._texts)
        answer = self._client.post("/v1/predict", json={"task": task, "inputs": text})
        answer.raise_for_status()
        self.seconds.append(time.perf_counter() - due_s)


def capacity(url: str, seconds: float) -> float:
    """Requests a second that closed loops get."""
    texts, until_s = probe_texts(), time.perf_counter() + seconds

    def loop(number: int) -> int:
        rng, count = random.Random(number), 0
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.perf_counter() < until_s:
                body = {"task": name_of(rng.randrange(RESIDENTS)), "inputs": rng.choice(texts)}
                client.post("/v1/predict", json=body).raise_for_status()
                count += 1
        return count

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(loop, range(CONNECTIONS))) / seconds


def upload_s(client: httpx.Client, files: Files, number: int) -> float:
    """Seconds from sending a file to the first answer of it, which has to be right."""
    task, data = name_of(number), files.data(number, name_of(number))
    started_s = time.perf_counter()
    path = f"/v1/tasks/{task}/versions"
    headers = {"Content-Type": "application/octet-stream"}
    client.post(path, content=data, headers=headers).raise_for_status()
    body = {"task": task, "inputs": files.probe(number)[0], "raw": True}
    answer = client.post("/v1/predict", json=body)
    ended_s = time.perf_counter()
    np.testing.assert_allclose(
        answer.json()["predictions"][0]["logits"], files.probe(number)[1], atol=ROUNDED
    )
    return ended_s - started_s


def uploads(files: Files, code: Path, folder: Path, num_uploads: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of uploads, idle and at half load, and what others wait."""
    others, store = Others(), folder / "store"
    store.parent.mkdir()
    fill(store, files, RESIDENTS)
    with server(code, store) as (client, _, _):
        url = str(client.base_url)
        upload_s(client, files, RESIDENTS)
        idle = []
        for number in range(num_uploads):
            time.sleep(0.5)
            idle.append(upload_s(client, files, RESIDENTS + 1 + number))
        half = capacity(url, max(3.0, seconds / 4)) / 2
        quiet, busy = Load(url, half), Load(url, half)
        loaded: list[float] = []
        with quiet:
            time.sleep(seconds)
        with busy:
            until_s, number = time.perf_counter() + seconds, RESIDENTS + 1 + num_uploads
            while time.perf_counter() < until_s:
                time.sleep(1.0)
                loaded.append(upload_s(client, files, number))
                number += 1
    quiet_s, busy_s = (np.percentile(one.seconds, [50, 99]) for one in (quiet, busy))
    return {
        "idle_ms": round(1e3 * statistics.median(idle), 1),
        "half_load_ms": round(1e3 * statistics.median(loaded), 1),
        "half_load_requests_per_s": round(half, 1),
        "others_p50_ratio": round(float(busy_s[0] / quiet_s[0]), 2),
        "others_p99_ratio": round(float(busy_s[1] / quiet_s[1]), 2),
        "others_p99_ms": [round(1e3 * float(one[1]), 1) for one in (quiet_s, busy_s)],
        "processor_taken_by_others": others.share(),
    }


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    files = Files(load_backbone("minilm"))
    result: dict[str, Any] = {"origin": record.origin(), "backbone": "minilm", "method": "hadamard"}
    result["start"] = starts(files, folder, args.tasks, args.rounds, args.against)
    result["upload"] = uploads(files, HERE, folder / "now", args.uploads, args.seconds)
    if args.against is not None:
        result["upload_older"] = uploads(files, args.against, folder / "older", args.uploads, args.seconds)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uploads", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--against", type=Path, help="checkout of an older version")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        result = measure(args, folder)
    finally:
        shutil.rmtree(folder)
    for part in ("start", "upload", "upload_older"):
        print(part, result.get(part))
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
