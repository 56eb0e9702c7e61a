"""Cells of `method_quality` with the Compacter paper's 20 epochs for its small tasks, best checkpoint kept.

The paper trains CoLA, MRPC and STS-B for 20 epochs and takes the best checkpoint by validation; the table of
`method_quality` has three epochs for every task and scores the end. Everything else is as there.

    python -m benchmarks.longer_training --data ../shared/data      # resumes: finished cells are kept
    python -m benchmarks.longer_training --method compacter_pp --rate 3e-3
    python -m benchmarks.longer_training --table                    # only print what there is
"""

import sys
from typing import Any

from benchmarks import method_quality, record, tables
from benchmarks.cells import Cell, Wanted, missing, train_cells

NAME = "longer_training"
TASKS = ("cola", "mrpc", "stsb")
METHODS = ("compacter_pp", "compacter", "full", "hadamard", "bitfit", "houlsby")
EPOCHS = 20


def wanted(tasks: list[str], methods: list[str], rate: float | None) -> list[Wanted]:
    """The cells, at `rate` or else at the rates that `method_quality` chose."""
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
    order = {key: i for i, key in enumerate((task, method) for task in TASKS for method in METHODS)}
    rows = []
    for cell in sorted(cells.values(), key=lambda cell: order[cell["task"], cell["method"]]):
        task, method, lr = cell["task"], cell["method"], cell["settings"]["lr"]
        before = method_quality.at_rate(short, task, method, lr)
        best, last = tables.points(cell["value"]), tables.points(cell["curve"][-1][2])
        after_three = tables.points(before["value"] if before else None)
        rows.append([task, f"`{method}`", f"{lr:g}", best, str(cell["best_epoch"]), last, after_three])
    head = ("task", "method", "rate", "20 epochs, best checkpoint", "its epoch", "at the end", "3 epochs")
    return tables.table(head, rows, num_names=2)


def main() -> int:
    parser = tables.options(__doc__, TASKS, METHODS, timed=True)
    parser.add_argument("--rate", type=float, help="another rate than the chosen one, beside it")
    args = parser.parse_args()
    if not args.table:
        cells = wanted(args.task or list(TASKS), args.method or list(METHODS), args.rate)
        train_cells(NAME, missing(NAME, cells), args.data, args.minutes)
    print(table(record.read(NAME), record.read(method_quality.NAME)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
