"""Cells of `method_quality` again with other seeds: how far apart two equal runs are.

A seed decides the rows of a batch and every random start. Rates, epochs and all else are as in the table of
`method_quality`, whose cells are the first seed.

    python -m benchmarks.seeds --data ../shared/data --seed 1 --seed 2     # resumes: finished cells are kept
    python -m benchmarks.seeds --table                                     # only print what there is
"""

import statistics
import sys
from typing import Any

from benchmarks import method_quality, record, tables
from benchmarks.cells import Wanted, missing, train_cells

NAME = "seeds"
METHODS = ("full", "houlsby", "hadamard", "compacter", "compacter_pp", "bitfit")
FIRST, OTHERS = 0, (1, 2)


def wanted(tasks: list[str], methods: list[str], seeds: list[int]) -> list[Wanted]:
    """The cells of some seeds, with the rates that `method_quality` chose."""
    chosen = record.read(method_quality.NAME)
    cells = []
    for seed in seeds:
        for task in tasks:
            for method in methods:
                cell = method_quality.cell_of(f"{task}/{method}", method, chosen)
                key, settings = f"{task}/{method}/{seed}", method_quality.TASKS[task]
                cells.append(Wanted(key, task, cell, seed, settings))
    return cells


def scores(cells: dict[str, Any], table: dict[str, Any], task: str, method: str) -> list[float]:
    """Of every seed that has the cell at the rate that is in the table, x 100; the table's seed first."""
    first = table.get(f"{task}/{method}")
    if first is None:
        return []
    same = [cells.get(f"{task}/{method}/{seed}") for seed in OTHERS]
    rate = first["settings"]["lr"]
    return [100 * cell["value"] for cell in (first, *same) if cell and cell["settings"]["lr"] == rate]


def table(cells: dict[str, Any], first: dict[str, Any]) -> str:
    """Mean and, in brackets, lowest and highest of the seeds, for every task and method that has several.

    The average is over the tasks that every method has with every seed.
    """
    found = {(t, m): scores(cells, first, t, m) for t in method_quality.TASKS for m in METHODS}
    tasks = [t for t in method_quality.TASKS if any(len(found[t, m]) > 1 for m in METHODS)]
    most = max((len(values) for values in found.values()), default=0)
    complete = [t for t in tasks if all(len(found[t, m]) == most for m in METHODS)]
    head = ["method", *tasks, *([f"average of {', '.join(complete)}", "to full"] if complete else [])]
    averages = {
        m: statistics.fmean(statistics.fmean(found[t, m]) for t in complete) for m in METHODS if complete
    }
    rows = []
    for m in METHODS:
        row = [f"`{m}`", *(_shown(found[t, m]) for t in tasks)]
        if complete:
            row += [f"{averages[m]:.1f}", f"{averages[m] - averages[method_quality.FULL]:+.1f}"]
        rows.append(row)
    return tables.table(head, rows)


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.fmean(values):.1f} ({min(values):.1f} to {max(values):.1f}; {len(values)})"


def main() -> int:
    parser = tables.options(__doc__, method_quality.TASKS, METHODS, timed=True)
    parser.add_argument("--seed", type=int, action="append", choices=OTHERS, help="only these seeds")
    args = parser.parse_args()
    if not args.table:
        tasks, methods = args.task or list(method_quality.TASKS), args.method or list(METHODS)
        cells = wanted(tasks, methods, args.seed or list(OTHERS))
        train_cells(NAME, missing(NAME, cells), args.data, args.minutes)
    print(table(record.read(NAME), record.read(method_quality.NAME)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
