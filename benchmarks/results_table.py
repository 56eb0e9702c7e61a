"""Every method on real text beside full fine-tuning and the alternatives: the table of docs/results.md.

All methods train with their shipped defaults through `training.run` and are scored through the serving form
on test rows that chose nothing; what is held out of the train rows is drawn by the run itself. `full` is
tuned: of three rates, with as many epochs as all others have by default, the one whose held-out scores are
best on average over the seeds. Beside them scikit-learn on embeddings, PEFT's LoRA with its library's own
Trainer, and SetFit where rows are few. A seed draws the rows and seeds the training.

    python -m benchmarks.results_table --data ../shared/data --workers 14 --device cuda --minutes 9
    python -m benchmarks.results_table --table        # only print what there is

It goes on where it stopped: cells that are in the result file are not made again.
"""

import statistics
import sys
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from benchmarks import contest, record, tables
from benchmarks.contest import Contender, Entry, ours, peer, peer_elsewhere
from benchmarks.draws import Case
from benchmarks.intervals import Mean, mean
from modeling import METHODS as REGISTERED

NAME = "results_table"
SEEDS = range(3)
ROWS = 2000
TASKS = (
    Case("trec", "trec", rows=ROWS),
    Case("stackoverflow20", "stackoverflow20", rows=ROWS),
    Case("banking77", "banking77", rows=ROWS),
    Case("sst2", "sst2", rows=ROWS, tests=("validation",)),
    Case("cola", "cola", rows=ROWS, tests=("validation",), metric="matthews", max_test_rows=1043),
    Case("mrpc", "mrpc", rows=ROWS, metric="f1+accuracy", max_test_rows=1725),
    Case("stsb", "stsb", rows=ROWS, metric="pearson+spearman", max_test_rows=1379),
    Case("sst5, a number", "sst5", rows=ROWS, metric="pearson+spearman", numbers=True, max_test_rows=2210),
    Case("reviews, 16 a class", "review_sentences", per_class=16, tests=("test", "validation")),
)
FULL, PROBE = "full", "linear_probe"
FULL_RATES = (3e-5, 1e-4, 3e-4)
SETFIT = "setfit"
Cells = dict[str, Any]


def _full(rate: float) -> Contender:
    return ours(f"{FULL} at {rate:g}", FULL, lr=rate)


METHODS = tuple(name for name in REGISTERED if name != FULL)
PEERS = ("logistic", "logistic_cv", "peft_lora", "peft_lora_tuned", SETFIT, "adapterhub_compacter_tuned")
CONTENDERS: tuple[Contender, ...] = (
    *(ours(name) for name in METHODS),
    *(_full(rate) for rate in FULL_RATES),
    *(peer(name) for name in PEERS[:4]),
    peer_elsewhere(SETFIT, attrgetter("setfit")),
    peer_elsewhere(PEERS[-1], attrgetter("adapterhub")),
)


def entries(tasks: list[Case], contenders: list[Contender], seeds: list[int]) -> list[Entry]:
    """Seed by seed and task by task, so that what there is after a while is of all methods."""
    return [
        Entry(case, contender, seed)
        for seed in seeds
        for case in tasks
        for contender in contenders
        if contender.name != SETFIT or case.per_class
    ]


def scores(cells: Cells, task: Case, contender: str, value: str = "value") -> dict[int, float]:
    """x 100, by seed."""
    found = {seed: cells.get(f"{task.name}/{contender}/{seed}") for seed in SEEDS}
    return {seed: 100 * cell[value] for seed, cell in found.items() if cell}


def chosen_full(cells: Cells, task: Case) -> str:
    """The name of the `full` whose held-out scores are best on average; of all rates with as many seeds."""
    names = [f"{FULL} at {rate:g}" for rate in FULL_RATES]
    held = {name: scores(cells, task, name, "held_out") for name in names}
    most = max(map(len, held.values()))
    whole = [name for name, values in held.items() if len(values) == most]
    return max(whole, key=lambda name: statistics.fmean(held[name].values()) if most else 0.0)


def results(cells: Cells, task: Case) -> dict[str, dict[int, float]]:
    """Scores by contender and seed; `full` is the chosen one."""
    found = {name: scores(cells, task, name) for name in (*METHODS, *PEERS)}
    return found | {FULL: scores(cells, task, chosen_full(cells, task))}


def shares_of_full(found: dict[str, dict[str, dict[int, float]]], name: str) -> Mean | None:
    """100 x the average over the tasks over that of `full`, by seed; None while a task or seed is missing.

    `found` has scores by task, contender and seed. Seeds that every task has of both count.
    """
    common = set(SEEDS)
    for by_name in found.values():
        common &= by_name[name].keys() & by_name[FULL].keys()
    if not common or not found:
        return None
    return mean([100 * _average(found, name, seed) / _average(found, FULL, seed) for seed in sorted(common)])


def _average(found: dict[str, dict[str, dict[int, float]]], name: str, seed: int) -> float:
    return statistics.fmean(by_name[name][seed] for by_name in found.values())


def table(cells: Cells) -> str:
    """Mean and standard error of each task; the average; its share of full's with a 95 % interval; size."""
    found = {task.name: results(cells, task) for task in TASKS}
    found = {task: by_name for task, by_name in found.items() if by_name[FULL]}
    head = ["method", *found, "average", "of full", "95 % interval", "trained parameters", "share"]
    sizes = _sizes(cells)
    order = sorted((*METHODS, FULL), key=lambda name: sizes.get(name, (0, 0.0))[0])
    rows = [_row(found, name, sizes.get(name)) for name in (*order, *PEERS)]
    return tables.table(head, [row for row in rows if any(row[1 : 1 + len(found)])])


def _row(
    found: dict[str, dict[str, dict[int, float]]], name: str, size: tuple[int, float] | None
) -> list[str]:
    values = [list(by_name[name].values()) for by_name in found.values()]
    share = shares_of_full(found, name)
    whole = bool(values) and all(values)
    return [
        f"`{name}`",
        *(mean(own).shown() if own else "" for own in values),
        f"{statistics.fmean(map(statistics.fmean, values)):.1f}" if whole else "",
        "" if share is None else f"{share.value:.1f} %",
        _interval(share),
        "" if size is None else f"{size[0]:,}",
        "" if size is None else f"{size[1]:.3f} %",
    ]


def _interval(share: Mean | None) -> str:
    if share is None or share.count < 2:
        return ""
    low, high = share.interval()
    return f"{low:.1f} to {high:.1f} %"


@dataclass(frozen=True)
class Line:
    """A method of ours on average over the tasks that all of them have, and its trained parameters."""

    method: str
    average: float
    parameters: int


def whole_tasks(cells: Cells) -> list[str]:
    """The tasks of which every method of ours has a cell."""
    found = {task.name: results(cells, task) for task in TASKS}
    return [task for task, by_name in found.items() if all(by_name[name] for name in (*METHODS, FULL))]


def lines(cells: Cells) -> list[Line]:
    """The methods in the order of their size, for a picture; none while no task is whole."""
    tasks, sizes = whole_tasks(cells), _sizes(cells)
    found = {task.name: results(cells, task) for task in TASKS if task.name in tasks}
    made = [
        Line(
            name,
            statistics.fmean(statistics.fmean(own[name].values()) for own in found.values()),
            sizes[name][0],
        )
        for name in (*METHODS, FULL)
        if tasks
    ]
    return sorted(made, key=lambda line: line.parameters)


def _sizes(cells: Cells) -> dict[str, tuple[int, float]]:
    """Trained parameters without the head and their share of the backbone, by method."""
    found = {}
    for cell in cells.values():
        if "parameters" in cell:
            name = FULL if cell["contender"].startswith(f"{FULL} at ") else cell["contender"]
            found[name] = (cell["parameters"], cell["share_percent"])
    return found


def full_rates(cells: Cells) -> str:
    """`full` at every rate: held-out and test scores of each task, the chosen rate in bold."""
    rows = []
    for task in TASKS:
        row, chosen = [task.name], chosen_full(cells, task)
        for rate in FULL_RATES:
            name = f"{FULL} at {rate:g}"
            both = [list(scores(cells, task, name, value).values()) for value in ("held_out", "value")]
            text = " / ".join(f"{statistics.fmean(values):.1f}" for values in both if values)
            row.append(f"**{text}**" if text and name == chosen else text)
        rows.append(row)
    shown = [row for row in rows if any(row[1:])]
    return tables.table(["task", *(f"{rate:g}: held out / test" for rate in FULL_RATES)], shown)


def described(cells: Cells) -> str:
    """What the cells say of where they come from: commits, machines, seeds, epochs of `full`."""
    origins = [cell["origin"] for cell in cells.values()]
    commits = ", ".join(sorted({origin["commit"] for origin in origins}))
    machines = ", ".join(sorted({origin["gpu"] or origin["processor"] for origin in origins}))
    seeds = sorted({cell["seed"] for cell in cells.values()})
    return f"{len(cells)} cells, commit {commits}, {machines}, {len(seeds)} seed(s)."


def _sized(case: Case, rows: int) -> Case:
    return replace(case, rows=rows) if case.rows else case


def main() -> int:
    parser = contest.options(__doc__, TASKS, CONTENDERS)
    parser.add_argument("--seed", type=int, action="append", choices=SEEDS, help="only these seeds")
    parser.add_argument("--rows", type=int, default=ROWS, help="train rows of a task that is not few-shot")
    args = parser.parse_args()
    name, failed = args.name or NAME, 0
    if not args.table:
        cases = [_sized(case, args.rows) for case in TASKS if not args.case or case.name in args.case]
        others = [one for one in CONTENDERS if args.adapterhub or one.name != PEERS[-1]]
        contenders = [one for one in others if not args.contender or one.name in args.contender]
        wanted = entries(cases, contenders, args.seed or list(SEEDS))
        failed = contest.run(name, wanted, contest.place_of(args), args.workers, args.minutes)
    cells = record.read(name)
    print(f"{table(cells)}\n\n{full_rates(cells)}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
