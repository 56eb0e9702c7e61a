"""Pairs read together or apart: the head alone and the default method both ways, on five tasks, three seeds.

What `training/learning/pairs.py` chooses by is the held-out loss of the head alone; this tells how often that
choice is also right for the adapter.

    python -m benchmarks.pairs --data ../shared/data --workers 12 --device cuda --minutes 3
"""

import sys

from benchmarks import contest, record, tables
from benchmarks.contest import Contender, Entry, ours, peer
from benchmarks.draws import Case
from benchmarks.intervals import mean

NAME = "pairs"
SEEDS = range(3)
ROWS = 2000
CASES = tuple(
    Case(name, name, rows=ROWS, tests=tests, metric=metric or "accuracy")
    for name, tests, metric in (
        ("mrpc", ("test",), None),
        ("mnli_small", ("validation",), None),
        ("qnli_small", ("validation",), None),
        ("rte", ("validation",), None),
        ("stsb", ("test",), "pearson+spearman"),
    )
)
CONTENDERS: tuple[Contender, ...] = (
    peer("logistic_cv"),
    ours("probe together", "linear_probe", pooling="unit"),
    ours("probe apart", "linear_probe", pooling="apart"),
    ours("hadamard together", "hadamard", pooling="unit"),
    ours("hadamard apart", "hadamard", pooling="apart"),
    ours("hadamard"),
)


def table(cells: contest.Cells) -> str:
    """Mean and standard error over the seeds."""
    rows = []
    for case in CASES:
        row = [case.name]
        for contender in CONTENDERS:
            keys = [f"{case.name}/{contender.name}/{seed}" for seed in SEEDS]
            values = [100 * cells[key]["value"] for key in keys if key in cells]
            row.append(mean(values).shown() if values else "")
        rows.append(row)
    return tables.table(["task", *(f"{contender.name}" for contender in CONTENDERS)], rows)


def main() -> int:
    args = contest.options(__doc__, CASES, CONTENDERS).parse_args()
    name, failed = args.name or NAME, 0
    cases = [case for case in CASES if not args.case or case.name in args.case]
    if not args.table:
        wanted = [Entry(case, one, seed) for seed in SEEDS for case in cases for one in CONTENDERS]
        failed = contest.run(name, wanted, contest.place_of(args), args.workers, args.minutes)
    print(table(record.read(name)))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
