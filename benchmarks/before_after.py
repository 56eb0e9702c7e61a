"""Is this tree slower than another? The variants of `mixed_batch`, both trees taking turns batch by batch.

Each tree runs in a process of its own, on the same batches; CPU seconds are compared, so that what else the
machine does counts as little as can be. Above 1: this tree is faster.

    python -m benchmarks.before_after --before DIR [--rounds 30] [--rows 64]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

from benchmarks import record

NAME = "before_after"
ROOT = Path(__file__).resolve().parent.parent
# What a tree runs: `mixed_batch` is its own, only names that every tree has are used.
WORKER = """
import random, sys, time
from benchmarks import mixed_batch as m
from modeling import load_backbone
base = load_backbone("minilm")
sets = {"64 tasks": ("hadamard",)} | {f"64 tasks of {name}": own for name, own in m.METHOD_SETS.items()}
served = {name: m.adapters(load_backbone("minilm"), 64, methods) for name, methods in sets.items()}
print(*["bare packed", *served], sep="|", flush=True)
for line in sys.stdin:
    seed, rows, name = line.rstrip().split("|")
    rng = random.Random(int(seed))
    batch = m.random_batch(base, int(rows), rng)
    start = time.process_time()
    m.bare(base, batch) if name not in served else m.mixed(served[name], batch, 64, rng)
    print(time.process_time() - start, flush=True)
"""


class Tree:
    """A tree's process, which answers one batch at a time."""

    def __init__(self, root: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-c", WORKER]
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=root
        )
        self.variants = self._line().split("|")

    def seconds(self, seed: int, rows: int, variant: str) -> float:
        """CPU time of one batch."""
        asked = cast(IO[str], self._process.stdin)
        asked.write(f"{seed}|{rows}|{variant}\n")
        asked.flush()
        return float(self._line())

    def _line(self) -> str:
        return cast(IO[str], self._process.stdout).readline().rstrip()


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the other tree")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rows", type=int, default=64, help="rows per batch")
    args = parser.parse_args()
    before, after = Tree(args.before.resolve()), Tree(ROOT)
    ratios: dict[str, list[float]] = {name: [] for name in after.variants}
    for seed in range(-2, args.rounds):  # two rounds warm up
        for name in after.variants:
            first, second = (before, after) if seed % 2 else (after, before)
            spent = {tree: tree.seconds(seed, args.rows, name) for tree in (first, second)}
            if seed >= 0:
                ratios[name].append(spent[before] / spent[after])
    medians = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    for name, median in medians.items():
        print(f"{name:32} {median:6.3f}")
    result = {"origin": record.origin(), "rounds": args.rounds, "before_over_after": medians}
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
