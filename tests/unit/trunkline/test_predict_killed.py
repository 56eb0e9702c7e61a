"""`predict --file` as a process of its own, ended from outside while a server is slow; and begun again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.trunkline.fake_server import prediction, result, task_of

NUM_ROWS, BATCH, SLOW = 60, 4, 32


class Server(ThreadingHTTPServer):
    """Answers at once, but from the row `slow` on only when `goes_on` is set; remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.slow, self.reached, self.goes_on = SLOW, threading.Event(), threading.Event()
        self.asked: list[str] = []

    def handle_error(self, *_: object) -> None:
        """Who asked has been killed."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._reply(task_of())

    def do_POST(self) -> None:
        inputs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        self.server.asked += inputs
        if int(inputs[0]) >= self.server.slow:
            self.server.reached.set()
            self.server.goes_on.wait(60)
        self._reply(result(*[prediction(f"label {text}") for text in inputs], task="mail"))

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _reply(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.goes_on.set()
        made.shutdown()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_run_goes_on(server: Server, tmp_path: Path, ending: str, number: int) -> None:
    rows, out = tmp_path / "r.jsonl", tmp_path / f"o.{ending}"
    rows.write_text("".join(json.dumps({"text": str(n)}) + "\n" for n in range(NUM_ROWS)))
    command = [sys.executable, "-m", "trunkline", "predict", "--task", "mail", "--batch", str(BATCH)]
    command += ["--in-flight", "2", "--url", f"http://127.0.0.1:{server.server_port}"]
    command += ["--file", str(rows), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.reached.wait(60)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    assert not out.exists()
    done = json.loads(out.with_name(f"{out.name}.part.json").read_text())["done"]["rows"]
    if number == signal.SIGINT:  # what was answered is kept, however young it is
        assert done in (SLOW - BATCH, SLOW)
        assert f"{done} of {NUM_ROWS} rows are kept in o.{ending}.part" in said
    server.goes_on.set()
    server.asked.clear()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 0, again.stderr
    asked = Counter(map(int, server.asked))
    assert sorted(asked) == list(range(done, NUM_ROWS))
    # Each once, but for the requests of the first run that came to their end only now: two are under way.
    twice = {row for row, count in asked.items() if count > 1}
    assert twice <= set(range(SLOW - BATCH, SLOW + 2 * BATCH))
    assert labels(out) == [f"label {n}" for n in range(NUM_ROWS)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([rows.name, out.name])


def labels(path: Path) -> list[str]:
    """The column of labels."""
    from pyarrow import csv, parquet

    table = parquet.read_table(path) if path.suffix == ".parquet" else csv.read_csv(path)
    found: list[str] = table["predicted_label"].to_pylist()
    return found
