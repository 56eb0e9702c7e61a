"""Score against the number of training rows: full fine-tuning, Compacter++, Hadamard and BitFit.

The protocol of `method_quality` (same head to start from, rates chosen there, one seed), with more epochs for
fewer rows, as in the Compacter paper's low-resource study; its rows are the first of the train file.

    python -m benchmarks.low_resource --data ../shared/data         # resumes: finished cells are kept
    python -m benchmarks.low_resource --table                       # only print what there is
"""

import sys
from typing import Any

from benchmarks import method_quality, record, tables
from benchmarks.cells import Cell, Wanted, missing, train_cells

NAME = "low_resource"
TASKS = ("trec", "sst2")
METHODS = ("full", "compacter_pp", "hadamard", "bitfit")
EPOCHS = {100: 40, 500: 8, 1_000: 5, 2_000: 3}  # by training rows: about equally many steps


def wanted(tasks: list[str], seed: int) -> list[Wanted]:
    """The cells of some tasks, with the rates that `method_quality` chose."""
    chosen = record.read(method_quality.NAME)
    rates = {method: method_quality.chosen_rate(chosen, method) for method in METHODS}
    cells = []
    for task in tasks:
        for rows, epochs in EPOCHS.items():
            for method, lr in rates.items():
                cell = Cell(method, lr, epochs, evaluate_steps=method_quality.AT_THE_END)
                cells.append(Wanted(f"{task}/{rows}/{method}", task, cell, seed, {"max_train_rows": rows}))
    return cells


def table(cells: dict[str, Any], task: str) -> str:
    """Rows are methods, columns numbers of training rows; the head alone on top."""
    found = {m: [cells.get(f"{task}/{rows}/{m}") for rows in EPOCHS] for m in METHODS}
    heads = [next((cell for cell in column if cell), None) for column in zip(*found.values(), strict=True)]
    rows = [["`linear_probe`", *(tables.points(cell and cell["head_only"]) for cell in heads)]]
    rows += [[f"`{m}`", *(tables.points(cell and cell["value"]) for cell in row)] for m, row in found.items()]
    return tables.table(["method", *(f"{rows:,} rows" for rows in EPOCHS)], rows)


def main() -> int:
    parser = tables.options(__doc__, TASKS, timed=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tasks = args.task or list(TASKS)
    if not args.table:
        train_cells(NAME, missing(NAME, wanted(tasks, args.seed)), args.data, args.minutes)
    for task in tasks:
        print(f"\n{task}\n{table(record.read(NAME), task)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
