"""How should rows of different length share attention calls inside a packed batch?

The packed forward pads nothing but, on the CPU, the grids inside attention. Rows in order of length share a
call while the longest is at most `stretch` times the shortest; with 1 only rows of equal length do, and there
is no padding at all. This script runs the same batches with several choices, in turns, and prints each one's
throughput as a ratio to a single padded grid per batch. `modeling/layout.py` uses 1 on the CPU.

    python -m benchmarks.attention_groups [--rounds 15] [--rows 64]
"""

import math
import random
import statistics
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import record, turns
from benchmarks.mixed_batch import bare, random_batch
from modeling import Backbone, Encoded, layout, load_backbone

NAME = "attention_groups"
CHOICES = (1.0, 1.2, 1.5, 2.0, 3.0)
ONE_GRID = "one grid"


def measure(num_rounds: int, rows: int) -> dict[str, Any]:
    """Throughput ratios of each choice to one grid per batch."""
    rng, backbone = random.Random(0), load_backbone("minilm")
    in_use = layout.GROUP_STRETCH["cpu"]
    rounds = [[random_batch(backbone, rows, rng) for _ in range(3)] for _ in range(num_rounds + 1)]
    variants = {f"stretch {stretch:g}": grouped(backbone, stretch) for stretch in CHOICES}
    seconds = turns.take_turns(variants | {ONE_GRID: grouped(backbone, math.inf)}, rounds, rng)
    one_grid = seconds.pop(ONE_GRID)
    return {
        "origin": record.origin(),
        "rows_per_batch": rows,
        "rounds": num_rounds,
        "in_use": in_use,
        "throughput_ratios_to_one_padded_grid": {
            name: round(statistics.median(one / own for one, own in zip(one_grid, spent, strict=True)), 3)
            for name, spent in seconds.items()
        },
    }


def grouped(backbone: Backbone, stretch: float) -> Callable[[list[Encoded]], None]:
    """The bare backbone with this choice."""

    def run(batch: list[Encoded]) -> None:
        layout.GROUP_STRETCH["cpu"] = stretch
        bare(backbone, batch)

    return run


def main() -> int:
    args = turns.options(__doc__, rounds=15, rows=64).parse_args()
    result = measure(args.rounds, args.rows)
    for name, value in result["throughput_ratios_to_one_padded_grid"].items():
        print(f"{name:28} {value:6.3f}")
    print("written:", record.write(NAME, result).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
