"""Cells of `method_quality` with the Compacter paper's 20 epochs for its small tasks, best checkpoint kept.

The paper trains CoLA, MRPC and STS-B for 20 epochs and takes the best checkpoint by validation; the table of
`method_quality` has three epochs for every task and scores the end. Everything else is as there.

    python -m benchmarks.longer_training --data ../shared/data      # resumes: finished cells are kept
    python -m benchmarks.longer_training --method compacter_pp --rate 3e-3
    python -m benchmarks.longer_training --table                    # only print what there is
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import method_quality, record

NAME = "longer_training"
TASKS = ("cola", "mrpc", "stsb")
METHODS = ("compacter_pp", "compacter", "full", "hadamard", "bitfit", "houlsby")
EPOCHS = 20


def wanted(tasks: list[str], methods: list[str], rate: float | None) -> list[Any]:
    """The cells, at `rate` or else at the rates that `method_quality` chose."""
    from benchmarks.cells import Cell, Wanted

    chosen = record.read(method_quality.NAME)
    cells = []
    for task in tasks:
        for method in methods:
            lr = rate or method_quality.chosen_rate(chosen, method)
            made = Cell(method, lr, EPOCHS)
            cells.append(Wanted(f"{task}/{method}/{lr:g}", task, made, settings=method_quality.TASKS[task]))
    return cells


def table(cells: dict[str, Any], short: dict[str, Any]) -> str:
    """A row for each cell: the score, the epoch of its best checkpoint, and the score after three epochs."""
    lines = ["| task | method | rate | 20 epochs, best checkpoint | its epoch | at the end | 3 epochs |"]
    lines.append("| --- | --- | --: | --: | --: | --: | --: |")
    order = {key: i for i, key in enumerate((task, method) for task in TASKS for method in METHODS)}
    for cell in sorted(cells.values(), key=lambda cell: order[cell["task"], cell["method"]]):
        task, method, lr = cell["task"], cell["method"], cell["settings"]["lr"]
        before = method_quality.at_rate(short, task, method, lr)
        best, last = _shown(cell["value"]), _shown(cell["curve"][-1][2])
        after_three = _shown(before["value"]) if before else ""
        shown = (task, f"`{method}`", f"{lr:g}", best, str(cell["best_epoch"]), last, after_three)
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(score: float) -> str:
    return f"{100 * score:.1f}"


def main() -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of data sets")
    parser.add_argument("--task", action="append", choices=TASKS, help="only these tasks")
    parser.add_argument(
        "--method", action="append", choices=METHODS, help="only these methods, in this order"
    )
    parser.add_argument("--rate", type=float, help="another rate than the chosen one, beside it")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no cell after this time")
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    args = parser.parse_args()
    if not args.table:
        from benchmarks.cells import train_missing

        cells = wanted(args.task or list(TASKS), args.method or list(METHODS), args.rate)
        train_missing(NAME, cells, args.data, args.minutes)
    print(table(record.read(NAME), record.read(method_quality.NAME)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
