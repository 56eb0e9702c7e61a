"""How many requests a second does our service answer beside other ways of serving such tasks?

Ours (float32, Hadamard or LoRA tasks) against a plain `transformers` pipeline, Infinity (one task, no
adapters), PEFT's LoRA with one active adapter behind a lock and with mixed batches, and AdapterHub's library
with one active adapter; the latter behind a minimal FastAPI server (`benchmarks/peers/serve_*.py`). All start
as they start by themselves, on the same backbone with texts of real lengths, one a request. Both servers of a
pair live at once and are asked in turn: closed loops over 1, 64 and 256 connections, with 1 and 64 tasks (who
has one task is compared by that one), and an open loop at half of what each bore at 64. Medians of the
rounds' ratios; of a p99 above 1: ours is quicker.

    python -m benchmarks.peers.environments FOLDER --only infinity --only adapterhub
    python -m benchmarks.http_peers --environments FOLDER [--peer infinity] [--rounds 5] [--seconds 1.5]
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import http_load, others, real_texts, record, turns
from benchmarks.http_load import Answered, Connection, post
from benchmarks.neighbour import server
from benchmarks.tasks_on_disk import Files, fill, name_of
from modeling import load_backbone
from modeling.loading import minilm_directory

NAME = "http_peers"
ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = (1, 64, 256)
HALF_OF = 64
"""Connections at which the load that a server bears is taken."""
NUM_TASKS = 64
READY_S = 180
MAX_WORDS = 60
"""Nobody cuts a text off."""
OPEN = "open loop at half"


@dataclass(frozen=True)
class Peer:
    """Somebody who serves: its command behind a Python, of an environment or ours; `method`: our tasks'."""

    command: tuple[str, ...]
    environment: str = ""
    method: str = "hadamard"
    tasks: tuple[int, ...] = (1,)
    path: str = "/v1/predict"

    def request(self, task: int, text: str) -> bytes:
        if self.path == "/classify":
            return post(self.path, {"model": "classifier", "input": [text]})
        return post(self.path, {"task": name_of(task), "inputs": text, "truncate": True})

    def argv(self, environments: Path, model: Path, port: int) -> list[str]:
        """What starts it. Raises FileNotFoundError where its environment was not built."""
        python = sys.executable
        if self.environment:
            python = str(environments / self.environment / "bin" / "python")
            if not Path(python).exists():
                raise FileNotFoundError(f"{python}: build it with `benchmarks.peers.environments`")
        words = {"MODEL": str(model), "PORT": str(port), "TASKS": str(max(self.tasks))}
        return [python, *(words.get(word, word) for word in self.command)]


_INFINITY = "from infinity_emb.cli import cli; cli()"
_INFINITY_OPTIONS = ("--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer")
PEERS = {
    "pipeline": Peer(("-m", "benchmarks.peers.serve_pipeline", "MODEL", "PORT", "TASKS")),
    "infinity": Peer(
        ("-c", _INFINITY, "v2", "--model-id", "MODEL", "--served-model-name", "classifier",
         "--host", "127.0.0.1", "--port", "PORT", *_INFINITY_OPTIONS),
        environment="infinity", path="/classify",
    ),
    "peft locked": Peer(
        ("-m", "benchmarks.peers.serve_peft", "locked", "MODEL", "PORT", "TASKS"),
        method="lora", tasks=(1, NUM_TASKS),
    ),
    "peft mixed": Peer(
        ("-m", "benchmarks.peers.serve_peft", "mixed", "MODEL", "PORT", "TASKS"),
        method="lora", tasks=(1, NUM_TASKS),
    ),
    "adapterhub": Peer(
        ("-m", "benchmarks.peers.serve_adapterhub", "MODEL", "PORT", "TASKS"),
        environment="adapterhub", method="lora", tasks=(1, NUM_TASKS),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A server that runs: where it listens, its process, its requests by the number of tasks."""

    name: str
    port: int
    pid: int
    requests: dict[int, list[bytes]]


def classifier(folder: Path) -> Path:
    """The backbone with a classifier of two labels, as the library keeps it."""
    from transformers import AutoModelForSequenceClassification

    source = minilm_directory()
    model = AutoModelForSequenceClassification.from_pretrained(
        str(source), id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}
    )
    model.save_pretrained(folder)
    for path in source.iterdir():
        if path.is_file() and not (folder / path.name).exists() and path.suffix in (".json", ".txt"):
            shutil.copy(path, folder)
    return folder


@contextmanager
def started(peer: Peer, environments: Path, model: Path, log: Path) -> Iterator[tuple[int, int]]:
    """Port and process id of a peer that answers. Raises SystemExit with its log where it does not."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))
    }
    environ |= {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with log.open("wb") as told:
        process = subprocess.Popen(
            peer.argv(environments, model, port), stdout=told, stderr=told, env=environ, cwd=log.parent
        )
    try:
        _wait(process, port, peer.request(0, "is it on"), log)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, request: bytes, log: Path) -> None:
    until_s = time.monotonic() + READY_S
    while True:
        try:
            uvloop.run(_once(port, request))
        except OSError:
            if process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"the peer did not start: {log.read_text()[-3000:]}") from None
            time.sleep(0.3)
        else:
            return


async def _once(port: int, request: bytes) -> None:
    connection = await Connection.to(port)
    try:
        await connection.ask(request)
    finally:
        await connection.close()


def requests_of(peer: Peer, texts: Sequence[str], tasks: Sequence[int]) -> dict[int, list[bytes]]:
    """One for each text; tasks in turn."""
    return {count: [peer.request(i % count, text) for i, text in enumerate(texts)] for count in tasks}


def one_round(
    sides: Sequence[Side], connections: Sequence[int], seconds: float, turn: int
) -> dict[str, Answered]:
    """Every load on every side, by `who, tasks, load`; the first one changes."""
    found: dict[str, Answered] = {}
    ordered = [*sides[turn % 2 :], *sides[: turn % 2]]
    for number in connections:
        for side in ordered:
            for tasks, requests in side.requests.items():
                key = f"{side.name}, {tasks} tasks, {number} connections"
                found[key] = uvloop.run(http_load.closed(side.port, requests, number, seconds))
    for side in ordered:
        for tasks, requests in side.requests.items():
            most = found[f"{side.name}, {tasks} tasks, {HALF_OF} connections"].per_s
            loop = http_load.open_loop(side.port, requests, max(1.0, most / 2), seconds, turn)
            found[f"{side.name}, {tasks} tasks, {OPEN}"] = uvloop.run(loop)
    return found


def told(rounds: Sequence[dict[str, Answered]], peer: str, tasks: Sequence[int]) -> dict[str, Any]:
    """Medians of each load, and ratios of ours over the peer's of the same round."""
    per_s = {key: [one[key].per_s for one in rounds] for key in rounds[0]}
    p99 = {key: [one[key].ms(99) for one in rounds] for key in rounds[0]}
    result: dict[str, Any] = {
        "requests_per_s": {key: round(statistics.median(own), 1) for key, own in per_s.items()},
        "p50_ms": {key: round(statistics.median(one[key].ms(50) for one in rounds), 2) for key in p99},
        "p99_ms": {key: round(statistics.median(own), 2) for key, own in p99.items()},
        "throughput_ratios": {},
        "p99_ratios": {},
    }
    spent = {key: [1 / max(0.1, rate) for rate in own] for key, own in per_s.items()}
    for key in (key for key in rounds[0] if key.startswith("ours, ")):
        _, mine, load = key.split(", ")
        theirs = f"{peer}, {min(int(mine.split()[0]), max(tasks))} tasks, {load}"
        name = f"{load}, {mine}: ours / {peer}"
        if load != OPEN:
            result["throughput_ratios"][name] = turns.ratio(spent, key, theirs)
        result["p99_ratios"][name] = turns.ratio(p99, key, theirs)
    return result


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Ours and one peer, both alive."""
    peer, rng = PEERS[name], random.Random(0)
    texts = real_texts.read(args.data, rng, 600, MAX_WORDS)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        fill(folder / "store", Files(load_backbone("minilm"), peer.method), NUM_TASKS)
        settings = dict(text.partition("=")[::2] for text in args.set)
        _, our_port, our_pid = stack.enter_context(server(folder / "store", folder / "ours.log", settings))
        model = classifier(folder / "model")
        port, pid = stack.enter_context(started(peer, args.environments, model, folder / "peer.log"))
        own = requests_of(Peer(()), texts, (1, NUM_TASKS))
        sides = [
            Side("ours", our_port, our_pid, own),
            Side(name, port, pid, requests_of(peer, texts, peer.tasks)),
        ]
        found, cores = [], []
        one_round(sides, (HALF_OF,), min(1.0, args.seconds), 0)  # warms up
        for turn in range(args.rounds):
            with others.watched(our_pid, pid) as seen:
                found.append(one_round(sides, args.connections, args.seconds, turn))
            cores.append(seen.cores)
            print(f"{name}, round {turn + 1}: others had {seen.cores:.2f} cores", flush=True)
    return {
        "origin": record.origin() | {"threads": "each with its own choice of threads"},
        "rounds": args.rounds,
        "seconds": args.seconds,
        "method": peer.method,
        "settings": settings,
        "others_busy_cores": round(statistics.median(cores), 2),
        "disturbed": statistics.median(cores) > others.DISTURBED_CORES,
        **told(found, name, peer.tasks),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environments", type=Path, default=Path("environments"))
    parser.add_argument("--peer", action="append", choices=PEERS, help="only these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=list(CONNECTIONS))
    parser.add_argument("--set", action="append", default=[], help="TRUNKLINE_NAME=VALUE for our service")
    parser.add_argument("--data", type=Path, default=real_texts.DATA, help="folder of data sets")
    args = parser.parse_args()
    if HALF_OF not in args.connections:
        parser.error(f"--connections must have {HALF_OF}: the open loop is at half of what is borne there")
    for name in args.peer or PEERS:
        result = measure(name, args)
        turns.print_ratios(result)
        turns.print_ratios({"throughput_ratios": result["p99_ratios"]})
        print({what: result[what] for what in ("requests_per_s", "p99_ms", "others_busy_cores", "disturbed")})
        record.add(NAME, name, result)
        print(f"written: {NAME}.json, {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
