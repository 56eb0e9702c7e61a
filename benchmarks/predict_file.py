"""What does a file of rows cost that is asked of a server: does memory stay, and is the server kept busy?

Memory: the peak of `trunkline predict --file --out` as a process of its own, for ten times the rows, with a
server that answers at once. Throughput: a real server of minilm on this machine, the same rows sent one
request after the other (as before) and with several under way; they take turns, and the median of the turns'
ratios counts.

    python -m benchmarks.predict_file [--rounds 5] [--rows 2000] [--few 20000]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from benchmarks import record
from trunkline.bulk.fields import Said
from trunkline.bulk.source import open_source
from trunkline.bulk.writing import Output, Pace, open_part, question_for, write_answers
from trunkline.cli.answers import chunks
from trunkline.client import Client

NAME = "predict_file"
ENDINGS = ("csv", "jsonl", "parquet")
TIMES = 10
IN_FLIGHT = (1, 2, 4, 8)
BATCH = 256
WORDS = (__doc__ or "").split()  # as short as words of English are
TOLD = """
import sys
from trunkline.cli import app
app(sys.argv[1:], standalone_mode=False)
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""
VERSION = {"version": 1, "digest": "a", "size_bytes": 1, "created": "", "state": "resident"}
TASK = {"kind": "single_label", "labels": ["no", "yes"], "fields": ["text"]}


class AtOnce(BaseHTTPRequestHandler):
    """Answers every input with the same label."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        task = {"task": "t", "revision": 1, "aliases": {"production": 1}, "versions": [{**VERSION, **TASK}]}
        self._reply(task)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        one = {"label": "yes", "score": 0.9, "scores": {"yes": 0.9}, "tokens": 9, "truncated": False}
        self._reply({"task": "t", "version": 1, "predictions": [one] * len(body["inputs"])})

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _reply(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def write_rows(path: Path, num_rows: int) -> Path:
    """Short texts, an id and a label, in the format of the ending."""
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randrange(3, 20))) for _ in range(num_rows)]
    labels = [rng.choice(("no", "yes")) for _ in texts]
    table = pa.table({"id": range(num_rows), "text": texts, "label": labels})
    if path.suffix == ".csv":
        arrow_csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


def peak_mib(url: str, path: Path, out: Path) -> float:
    """The most memory that the command had at a time, as Linux tells it of a process.

    What `wait4` tells begins with the memory of the process that started it.
    """
    args = ["predict", "--task", "t", "--url", url, "--file", str(path), "--out", str(out)]
    command = [sys.executable, "-c", TOLD, *args]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(told.rpartition("VmHWM:")[2].split()[0]) / 1024


def measure_memory(few: int, folder: Path) -> dict[str, Any]:
    """Peaks for `few` rows and for ten times as many."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), AtOnce)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, found = f"http://127.0.0.1:{server.server_port}", {}
    for ending in ENDINGS:
        peaks = []
        for num_rows in (few, few * TIMES):
            path = write_rows(folder / f"{num_rows}.{ending}", num_rows)
            peaks.append(peak_mib(url, path, folder / f"out_{num_rows}.{ending}"))
            path.unlink()
        found[ending] = {"peaks_mib": [round(peak) for peak in peaks], "ratio": round(peaks[1] / peaks[0], 2)}
        print(f"memory  {ending:8} {found[ending]}", flush=True)
    server.shutdown()
    return {"rows": [few, few * TIMES], "by_ending": found}


@contextmanager
def minilm_server(folder: Path) -> Iterator[str]:
    """The address of a server of minilm with one trained task."""
    rows = write_rows(folder / "train.jsonl", 200)
    adapter = folder / "t.safetensors"
    train = [
        sys.executable,
        "-m",
        "trunkline",
        "train",
        "--data",
        str(rows),
        "--task",
        "t",
        "--out",
        str(adapter),
    ]
    subprocess.run([*train, "--method", "linear_probe", "--quiet"], check=True)
    log = (folder / "log").open("wb")
    serve = [sys.executable, "-m", "trunkline", "serve", "--backbone", "minilm", "--port", "0"]
    process = subprocess.Popen([*serve, "--store", str(folder / "store")], stderr=log, stdout=log)
    try:
        url = _address(folder / "log", process)
        with Client(url) as client:
            client.wait_ready(300)
            client.push(adapter)
        yield url
    finally:
        process.terminate()
        process.wait()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    while process.poll() is None:
        found = log.read_text().partition("running on ")[2].split()
        if found:
            return found[0]
        time.sleep(0.1)
    raise SystemExit(f"the server did not start: {log.read_text()}")


def one_after_the_other(client: Client, path: Path) -> None:
    """As it was before: a request, its answer printed, the next one."""
    lines = (json.loads(line) for line in path.read_text().splitlines())
    with path.with_suffix(".printed").open("w") as out:
        for part in chunks(lines, BATCH):
            for one in client.predict("t", [row["text"] for row in part]):
                out.write(json.dumps({"label": one.label, "score": one.score}) + "\n")


def whole_file(client: Client, path: Path, in_flight: int) -> None:
    """As `--file` and `--out` do it."""
    source = open_source(path)
    question, _ = question_for(client, ["t"], source, Said(), {})
    out = Output(path.with_suffix(".out.jsonl"), overwrite=True)
    part, columns = open_part(out, source, question)
    pace = Pace(BATCH, in_flight)
    write_answers(client, question, source, part, columns, pace, lambda _: None)


def measure_throughput(num_rounds: int, num_rows: int, folder: Path) -> dict[str, Any]:
    """Seconds of each way in every turn; ratios of rates to the way of before."""
    path = write_rows(folder / "rows.jsonl", num_rows)
    with minilm_server(folder) as url, Client(url) as client:
        ways: dict[str, Callable[[], None]] = {"before": lambda: one_after_the_other(client, path)}
        for n in IN_FLIGHT:
            ways[f"{n} in flight"] = lambda n=n: whole_file(client, path, n)  # type: ignore[misc]  # bound now
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        rng = random.Random(0)
        for turn in range(num_rounds + 1):
            for name in rng.sample([*ways], len(ways)):
                started = time.perf_counter()
                ways[name]()
                if turn:  # the first warms everything up
                    seconds[name].append(time.perf_counter() - started)
    ratios = {
        name: statistics.median(b / s for b, s in zip(seconds["before"], own, strict=True))
        for name, own in seconds.items()
    }
    print({name: round(ratio, 3) for name, ratio in ratios.items()}, flush=True)
    rate = num_rows / statistics.median(seconds["before"])
    return {"rounds": num_rounds, "rows": num_rows, "before_rows_per_s": round(rate), "ratios": ratios}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--few", type=int, default=20_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = {
            "origin": record.origin(),
            "memory": measure_memory(args.few, Path(name)),
            "throughput": measure_throughput(args.rounds, args.rows, Path(name)),
        }
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
