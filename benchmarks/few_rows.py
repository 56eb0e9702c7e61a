"""Score against the number of train rows: full fine-tuning, adapters, the head alone and scikit-learn.

The protocol of `benchmarks.results_table` on 100 to 2,000 rows of two tasks: shipped defaults (on few rows a
method gets more epochs by itself), `full` at the best of its rates by held-out rows, three seeds, test rows
that chose nothing.

    python -m benchmarks.few_rows --data ../shared/data --workers 14 --device cuda --minutes 9
    python -m benchmarks.few_rows --table        # only print what there is
"""

import sys
from typing import Any

from benchmarks import contest, record, tables
from benchmarks.draws import Case
from benchmarks.intervals import mean
from benchmarks.results_table import CONTENDERS, FULL, SEEDS, chosen_full, entries, scores

NAME = "few_rows"
TASKS = {"trec": ("test",), "sst2": ("validation",)}
ROWS = (100, 500, 1000, 2000)
METHODS = ("linear_probe", "compacter_pp", "hadamard", "bitfit", "logistic_cv")
CASES = {
    (task, rows): Case(f"{task}, {rows} rows", task, rows=rows, tests=tests)
    for task, tests in TASKS.items()
    for rows in ROWS
}
CHOSEN = tuple(one for one in CONTENDERS if one.name in METHODS or one.name.startswith(f"{FULL} at "))
Cells = dict[str, Any]


def results(cells: Cells, task: str, rows: int) -> dict[str, dict[int, float]]:
    """Scores (x 100) by contender and seed; `full` at the rate that held-out rows chose."""
    case = CASES[task, rows]
    found = {name: scores(cells, case, name) for name in METHODS}
    return found | {FULL: scores(cells, case, chosen_full(cells, case))}


def table(cells: Cells, task: str = "trec") -> str:
    """Rows are contenders, columns numbers of train rows."""
    found = {rows: results(cells, task, rows) for rows in ROWS}
    lines = []
    for name in (*METHODS, FULL):
        values = [list(by_name[name].values()) for by_name in found.values()]
        if any(values):
            lines.append([f"`{name}`", *(mean(own).shown() if own else "" for own in values)])
    return tables.table(["", *(f"{rows:,} rows" for rows in ROWS)], lines)


def sst2(cells: Cells) -> str:
    """The table of SST-2."""
    return table(cells, "sst2")


def main() -> int:
    parser = contest.options(__doc__, tuple(CASES.values()), CHOSEN)
    args = parser.parse_args()
    name, failed = args.name or NAME, 0
    if not args.table:
        cases = [case for case in CASES.values() if not args.case or case.name in args.case]
        contenders = [one for one in CHOSEN if not args.contender or one.name in args.contender]
        wanted = entries(cases, contenders, list(SEEDS))
        failed = contest.run(name, wanted, contest.place_of(args), args.workers, args.minutes)
    for task in TASKS:
        print(f"\n{task}\n{table(record.read(name), task)}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
