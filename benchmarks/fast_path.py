"""What does the fast path buy, and what does mixing cost on it?

Throughput of the same batches on the fast path and on the reference path (the library's modules with
`Tapped`), bare and with 64 tasks of each method in turn; and of mixed batches over bare ones on the fast
path. Lengths are lognormal, 6 to 128 tokens. The variants take turns, the ratio of each turn is taken, and
the median of those is printed. With --cpu-time seconds of this process count instead of those of the wall:
for one thread beside other work. With `--dtype bfloat16` both paths run in that format, and the fast one is
compared with itself in float32, too.

    python -m benchmarks.fast_path [--rounds 20] [--rows 1 8 64] [--cpu-time] [--dtype bfloat16]
"""

import argparse
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import record, turns
from benchmarks.mixed_batch import METHOD_SETS, SPECS, mixed, random_batch
from modeling import Encoded, ServedModel, load_backbone

NAME = "fast_path"
SETS = {"hadamard": ("hadamard",), "ln_tuning": ("ln_tuning",), "phm": ("phm",), **METHOD_SETS}
FAST, REFERENCE, EXACT = "fast", "reference", "fast in float32"
BATCHES_PER_ROUND = {1: 40, 8: 8}  # else 2
Variants = dict[str, Callable[[list[Encoded]], None]]


def variants(rng: random.Random, dtype: torch.dtype) -> Variants:
    """Bare and mixed batches on each path; each served model has a backbone of its own."""
    made: Variants = {}
    for path in (FAST, REFERENCE) if dtype == torch.float32 else (FAST, REFERENCE, EXACT):
        for name, methods in {"bare": (), **SETS}.items():
            backbone = load_backbone("minilm", dtype=torch.float32 if path == EXACT else dtype)
            count = 64 if methods else 0
            model, _ = turns.served(backbone, count, methods, SPECS, fast=path != REFERENCE)
            made[f"{name}, {path}"] = _run(model, rng)
            assert (model._path is not None) == (path != REFERENCE), "no kernels here: see the log"
    return made


def _run(model: ServedModel, rng: random.Random) -> Callable[[list[Encoded]], None]:
    def run(batch: list[Encoded]) -> None:
        if model.num_resident:
            mixed(model, batch, 64, rng)
        else:
            model.run(batch, [0] * len(batch), [])

    return run


def measure(
    num_rounds: int, sizes: list[int], clock: Callable[[], float], dtype: torch.dtype
) -> dict[str, Any]:
    """All variants once per round on the same batches, by number of rows; medians of the rounds' ratios."""
    rng = random.Random(0)
    made, backbone, ratios = variants(rng, dtype), load_backbone("minilm"), {}
    for rows in sizes:
        count = BATCHES_PER_ROUND.get(rows, 2)
        rounds = [[random_batch(backbone, rows, rng) for _ in range(count)] for _ in range(num_rounds + 1)]
        seconds = turns.take_turns(made, rounds, rng, clock)
        for name in ("bare", *SETS):
            quick = f"{name}, {FAST}"
            for path in (REFERENCE, EXACT):
                if f"{name}, {path}" in made:
                    ratio = turns.ratio(seconds, quick, f"{name}, {path}")
                    ratios[f"{rows} rows, {name}: fast / {path}"] = ratio
            if name != "bare":
                ratios[f"{rows} rows, {name}: mixed / bare"] = turns.ratio(seconds, quick, f"bare, {FAST}")
    return {
        "origin": record.origin(),
        "backbone": "minilm",
        "dtype": str(dtype).removeprefix("torch."),
        "rounds": num_rounds,
        "throughput_ratios": ratios,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64], help="rows per batch")
    parser.add_argument("--cpu-time", action="store_true", help="count the CPU seconds of this process")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    clock = time.process_time if args.cpu_time else time.perf_counter
    dtype: torch.dtype = getattr(torch, args.dtype)
    result = measure(args.rounds, args.rows, clock, dtype) | {"clock": "cpu" if args.cpu_time else "wall"}
    turns.print_ratios(result)
    name = NAME if dtype == torch.float32 else f"{NAME}_{args.dtype}"
    print("written:", record.write(name, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
