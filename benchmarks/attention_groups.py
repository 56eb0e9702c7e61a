"""How should rows of different length share attention calls inside a packed batch?

The packed forward pads nothing but, on the CPU, the grids inside attention. Rows in order of length share a
call while the longest is at most `stretch` times the shortest; with 1 only rows of equal length do, and there
is no padding at all. This script runs the same batches with several choices, in turns, and prints each one's
throughput as a ratio to a single padded grid per batch. `modeling/layout.py` uses 1 on the CPU.

    python -m benchmarks.attention_groups [--rounds 15] [--rows 64]
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from typing import Any

from benchmarks import record
from benchmarks.mixed_batch import bare, random_batch, timed
from modeling import layout, load_backbone

NAME = "attention_groups"
CHOICES = (1.0, 1.2, 1.5, 2.0, 3.0)
ONE_GRID = math.inf


def measure(rounds: int, rows: int) -> dict[str, Any]:
    """Throughput ratios of each choice to one grid per batch."""
    rng, backbone = random.Random(0), load_backbone("minilm")
    in_use = layout.GROUP_STRETCH["cpu"]
    ratios: dict[float, list[float]] = {choice: [] for choice in CHOICES}
    for round_ in range(rounds + 1):
        batches = [random_batch(backbone, rows, rng) for _ in range(3)]
        seconds = {}
        for choice in sorted([*CHOICES, ONE_GRID], key=lambda _: rng.random()):
            layout.GROUP_STRETCH["cpu"] = choice
            seconds[choice] = timed(lambda batch: bare(backbone, batch), batches)
        if round_ > 0:  # the first round warms up
            for choice, values in ratios.items():
                values.append(seconds[ONE_GRID] / seconds[choice])
    return {
        "origin": record.origin(),
        "rows_per_batch": rows,
        "rounds": rounds,
        "in_use": in_use,
        "throughput_ratios_to_one_padded_grid": {
            f"stretch {stretch:g}": round(statistics.median(values), 3) for stretch, values in ratios.items()
        },
    }


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=64)
    args = parser.parse_args()
    result = measure(args.rounds, args.rows)
    for name, value in result["throughput_ratios_to_one_padded_grid"].items():
        print(f"{name:28} {value:6.3f}")
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
