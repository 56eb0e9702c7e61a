"""How fast is our bare packed backbone beside other engines that run the same weights?

Ours (packed, the fast path, float32 and bfloat16) against Hugging Face's module (all rows padded to the
longest; sorted and cut into pieces), ONNX Runtime, and OpenVINO (float32, and bfloat16 by its hint). Each
waits in a process of its own with as many threads and is asked in turn for the same batches: rows of a real
mix of lengths, and rows of 5 to 512 tokens each. Token ids go in, mean-pooled states [B, H] come out, and
those are compared with Hugging Face's. Peers but `hf padded` may sort the rows and choose the size of their
pieces, for each load what was quickest, and have seen every shape before. Medians of the rounds' ratios.

    python -m benchmarks.peers.environments FOLDER --only engines
    python -m benchmarks.bare_backbone --engines FOLDER/engines/bin/python [--threads 1] [--rounds 5]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import others, real_texts, record, turns
from modeling import load_backbone
from modeling.loading import minilm_directory

NAME = "bare_backbone"
ROOT = Path(__file__).resolve().parent.parent
OURS = ("ours float32", "ours bfloat16")
HERE = (*OURS, "hf padded", "hf sorted")
THERE = ("onnxruntime", "openvino float32", "openvino bfloat16")
EXACT = "hf padded"
"""Whose states the others are compared with."""
TOLERANCE = 1e-4
ROWS = {1: 16, 8: 6, 32: 2, 64: 2, 256: 1}
"""Batches of a round by the rows of each, of a real mix of lengths."""
TOKENS = (5, 32, 128, 512)
EQUAL_ROWS = 8
Loads = dict[str, list[list[list[int]]]]


def loads(texts: Sequence[Sequence[int]], rows: Mapping[int, int], tokens: Sequence[int]) -> Loads:
    """Batches of ids by name: `rows` of real texts, and `EQUAL_ROWS` rows of `tokens` tokens each."""
    source, found = iter(texts), {}
    for size, count in rows.items():
        found[f"{size} rows"] = [[list(next(source)) for _ in range(size)] for _ in range(count)]
    rng, start, end = random.Random(0), texts[0][0], texts[0][-1]
    for length in tokens:
        found[f"{EQUAL_ROWS} rows of {length} tokens"] = [
            [[start, *rng.choices(range(1000, 20_000), k=length - 2), end] for _ in range(EQUAL_ROWS)]
        ]
    return found


class Engine:
    """One side in its process: it answers a line with a line."""

    def __init__(self, python: str, name: str, batches: Path, threads: int) -> None:
        environ = os.environ | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "BARE_BACKBONE_GRAPH": str(batches.with_suffix(".onnx")),
        }
        module = [python, "-m", "benchmarks.peers.engines", name]
        self.name = name
        self.process = subprocess.Popen(
            [*module, str(minilm_directory()), str(batches)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            text=True,
        )
        self.passes: dict[str, int] = json.loads(self._asked())

    def seconds(self, load: str) -> float:
        """Of all batches of a load."""
        return float(self._told(load))

    def states(self, load: str, out: Path) -> Any:
        """The mean states [B, H] of the first batch of a load."""
        self._told(f"{load}\t{out}")
        return np.load(out)

    def _told(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._asked()

    def _asked(self) -> str:
        """The next answer. Raises RuntimeError where the process ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}: see above")
        return line

    def close(self) -> None:
        """The end of its input is the end of the process."""
        with self.process:
            pass


def differences(engines: Sequence[Engine], names: Sequence[str], folder: Path) -> dict[str, float]:
    """The largest difference of each engine's states from the exact ones. Raises RuntimeError where float32
    differs by more than `TOLERANCE`: what is not equal is not compared.
    """
    exact = next(engine for engine in engines if engine.name == EXACT)
    found = {engine.name: 0.0 for engine in engines}
    for load in names:
        wanted = exact.states(load, folder / "exact.npy")
        for engine in engines:
            own = engine.states(load, folder / "own.npy")
            found[engine.name] = max(found[engine.name], float(np.abs(own - wanted).max()))
    wrong = {name: gap for name, gap in found.items() if "bfloat16" not in name and gap > TOLERANCE}
    if wrong:
        raise RuntimeError(f"states differ from Hugging Face's by more than {TOLERANCE}: {wrong}")
    return found


def rounds_of(
    engines: Sequence[Engine], names: Sequence[str], rounds: int
) -> tuple[dict[str, turns.Seconds], float]:
    """Seconds by load and engine, and the cores that others had, the median of the rounds."""
    seconds: dict[str, turns.Seconds] = {load: {engine.name: [] for engine in engines} for load in names}
    cores = []
    for turn in range(rounds):
        first = turn % len(engines)
        with others.watched(*(engine.process.pid for engine in engines)) as found:
            for load in names:
                for engine in (*engines[first:], *engines[:first]):
                    seconds[load][engine.name].append(engine.seconds(load))
        cores.append(found.cores)
        print(f"round {turn + 1}: others had {found.cores:.2f} cores", flush=True)
    return seconds, statistics.median(cores)


def ratios(seconds: Mapping[str, turns.Seconds]) -> dict[str, dict[str, float]]:
    """Ours over every peer of no lower precision: bfloat16 is compared with bfloat16 alone."""
    found = {}
    for load, own in seconds.items():
        for mine in (name for name in own if name in OURS):
            same = mine.partition(" ")[2] == "bfloat16"
            for peer in (name for name in own if name not in OURS and ("bfloat16" in name) == same):
                found[f"{load}: {mine} / {peer}"] = turns.ratio(own, mine, peer)
        if set(OURS) <= own.keys():
            found[f"{load}: {OURS[1]} / {OURS[0]}"] = turns.ratio(own, OURS[1], OURS[0])
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One number of threads: every engine, every load."""
    backbone, rng = load_backbone("minilm"), random.Random(0)
    wanted = {size: ROWS[size] for size in args.rows}
    texts = real_texts.read(args.data, rng, sum(size * count for size, count in wanted.items()) + 1)
    ids = [encoded.ids for encoded in backbone.text.encode(texts, 512)]
    made = loads(ids, wanted, args.tokens)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        batches = folder / "batches.json"
        batches.write_text(json.dumps(made))
        pythons = dict.fromkeys(HERE, sys.executable)
        pythons |= dict.fromkeys(THERE, args.engines) if args.engines else {}
        pythons = {side: python for side, python in pythons.items() if side in args.side}
        engines = []
        for engine_name, python in pythons.items():
            engines.append(Engine(python, engine_name, batches, args.threads))
            stack.callback(engines[-1].close)
            print(f"ready: {engine_name} {engines[-1].passes or ''}", flush=True)
        gaps = differences(engines, list(made), folder)
        seconds, cores = rounds_of(engines, list(made), args.rounds)
        passes = {engine.name: engine.passes for engine in engines if engine.passes}
    medians = {
        load: {who: round(1000 * statistics.median(spent), 2) for who, spent in own.items()}
        for load, own in seconds.items()
    }
    return {
        "origin": record.origin() | {"threads": args.threads},
        "rounds": args.rounds,
        "others_busy_cores": round(cores, 2),
        "disturbed": cores > others.DISTURBED_CORES,
        "mean_tokens_per_row": round(statistics.mean(map(len, ids)), 1),
        "largest_difference": {who: float(f"{gap:.2g}") for who, gap in gaps.items()},
        "passes": passes,
        "round_ms": medians,
        "throughput_ratios": ratios(seconds),
    }


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", default="", help="the python that has ONNX Runtime and OpenVINO")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--tokens", type=int, nargs="*", default=list(TOKENS))
    parser.add_argument("--side", nargs="+", default=[*HERE, *THERE], choices=[*HERE, *THERE])
    parser.add_argument("--data", type=Path, default=real_texts.DATA, help="folder of data sets")
    return parser


def main() -> int:
    args = options().parse_args()
    result = measure(args)
    turns.print_ratios(result)
    print({name: result[name] for name in ("largest_difference", "others_busy_cores", "disturbed")})
    key = f"{args.threads} thread{'s' if args.threads > 1 else ''}"
    record.add(NAME, key, result)
    print(f"written: {NAME}.json, {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
