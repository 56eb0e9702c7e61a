"""Score against the number of training rows: full fine-tuning, Compacter++, Hadamard and BitFit.

The protocol of `method_quality` (same head to start from, rates chosen there, one seed), with more epochs for
fewer rows, as in the Compacter paper's low-resource study; its rows are the first of the train file.

    python -m benchmarks.low_resource --data ../shared/data         # resumes: finished cells are kept
    python -m benchmarks.low_resource --table                       # only print what there is
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import method_quality, record

NAME = "low_resource"
TASKS = ("trec", "sst2")
METHODS = ("full", "compacter_pp", "hadamard", "bitfit")
EPOCHS = {100: 40, 500: 8, 1_000: 5, 2_000: 3}  # by training rows: about equally many steps


def wanted(tasks: list[str], seed: int) -> list[Any]:
    """The cells of some tasks, with the rates that `method_quality` chose."""
    from benchmarks.cells import Cell, Wanted

    chosen = record.read(method_quality.NAME)
    return [
        Wanted(
            f"{task}/{rows}/{method}",
            task,
            Cell(
                method,
                method_quality.chosen_rate(chosen, method),
                EPOCHS[rows],
                evaluate_steps=method_quality.AT_THE_END,
            ),
            seed,
            {"max_train_rows": rows},
        )
        for task in tasks
        for rows in EPOCHS
        for method in METHODS
    ]


def table(cells: dict[str, Any], task: str) -> str:
    """Rows are methods, columns numbers of training rows; the head alone on top."""
    lines = ["| method | " + " | ".join(f"{rows:,} rows" for rows in EPOCHS) + " |"]
    lines.append("| --- |" + " --: |" * len(EPOCHS))
    found = [[cells.get(f"{task}/{rows}/{method}") for rows in EPOCHS] for method in METHODS]
    heads = [next((row[i] for row in found if row[i]), None) for i in range(len(EPOCHS))]
    lines.append("| `linear_probe` | " + " | ".join(_shown(cell, "head_only") for cell in heads) + " |")
    for method, row in zip(METHODS, found, strict=True):
        lines.append(f"| `{method}` | " + " | ".join(_shown(cell, "value") for cell in row) + " |")
    return "\n".join(lines)


def _shown(cell: dict[str, Any] | None, key: str) -> str:
    return "" if cell is None else f"{100 * cell[key]:.1f}"


def main() -> int:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of data sets")
    parser.add_argument("--task", action="append", choices=TASKS, help="only these tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e6, help="start no cell after this time")
    parser.add_argument("--table", action="store_true", help="train nothing, print the tables")
    args = parser.parse_args()
    tasks = args.task or list(TASKS)
    if not args.table:
        from benchmarks.cells import train_missing

        train_missing(NAME, wanted(tasks, args.seed), args.data, args.minutes)
    for task in tasks:
        print(f"\n{task}\n{table(record.read(NAME), task)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
