"""Every method on real text, in the shape of the papers' Table 1; all on MiniLM, with one protocol.

The learning rate of each method is chosen by validation from the decades 3e-5 ... 3e-1 and some between, on
reduced runs (2,000 rows of TREC and of SST-2, 2 epochs; the best on average) and is then used for all
tasks. Every method starts from the same head (stage one on the frozen backbone) and trains for the same
epochs; it is scored at the end (its first head counts if that is better). Training steps multiply in
bfloat16 (see `training.loop.precision`), evaluation is float32; two cells are repeated in float32 as a check.

    python -m benchmarks.method_quality --data ../shared/data       # resumes: finished cells are kept
    python -m benchmarks.method_quality --task trec --method lora --again
    python -m benchmarks.method_quality --table                     # only print what there is
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import record, tables
from benchmarks.cells import PROBE, Cell, Wanted, train_cells
from training.settings.defaults import DEFAULTS

NAME = "method_quality"
FULL = "full"
Cells = dict[str, Any]
EPOCHS = 3
AT_THE_END = 10**6  # steps between evaluations: before the first step and after the last one only
RATE_EPOCHS, RATE_ROWS, RATE_TASKS = 2, 2_000, ("trec", "sst2")
# settings of the data: rows of the train file, and the metric that decides where the paper averages two
TASKS: dict[str, dict[str, Any]] = {
    "trec": {},
    "stackoverflow20": {"max_train_rows": 5_000},
    "sst2": {"max_train_rows": 5_000},
    "cola": {},
    "mrpc": {"metric": "f1+accuracy"},
    "stsb": {"metric": "pearson+spearman"},
}
# candidates for the rate: neighbouring decades of the paper's grid, and a rate between or above them;
# none for the probe, which has no body
RATES: dict[str, tuple[float, ...]] = {
    PROBE: (),
    FULL: (3e-5, 1e-4, 3e-4),
    "hadamard": (3e-3, 1e-2, 3e-2),
    "compacter": (3e-3, 1e-2, 3e-2),
    "compacter_pp": (3e-3, 1e-2, 3e-2),
    "bitfit": (3e-3, 1e-2, 3e-2),
    "houlsby": (3e-4, 3e-3, 1e-2),
    "lora": (3e-4, 3e-3, 1e-2),
    "pfeiffer": (3e-3, 1e-2, 3e-2),
    "phm": (3e-3, 1e-2, 3e-2),
    "low_rank_adapter": (3e-3, 1e-2, 3e-2),
    "ia3": (3e-3, 1e-2, 3e-2),
    "ln_tuning": (3e-3, 1e-2, 3e-2),
    "adapter_drop": (3e-3, 1e-2, 3e-2),
    "prompt_tuning": (3e-2, 3e-1),
    "intrinsic_said": (3e-3, 3e-2),
}
OPTIONS: dict[str, dict[str, Any]] = {"prompt_tuning": {"tokens": 20}}
# a step of SAID transforms as many numbers as the backbone has, whatever its batch: few and large ones
BATCH_SIZE = {"intrinsic_said": 128}
COSTLY = ("prompt_tuning", "intrinsic_said")  # a cell that they lack does not keep a task out of averages
# with --borrow, a method without reduced runs of its own gets the rate of its nearest relative
RELATIVES = {
    "pfeiffer": "houlsby",
    "adapter_drop": "houlsby",
    "phm": "compacter",
    "low_rank_adapter": "compacter",
    "ia3": "hadamard",
    "ln_tuning": "hadamard",
}
FLOAT32_CHECKS = (("trec", "hadamard"), ("trec", FULL))


def wanted(tasks: list[str], methods: list[str]) -> list[tuple[str, str, str]]:
    """(section, task, method) of every cell, in the order in which they are worth having."""
    cells = [
        (rate_key(task, method, lr), task, method)
        for task in RATE_TASKS
        for method in methods
        for lr in RATES[method]
    ]
    cells += [(f"{task}/{method}", task, method) for task in tasks for method in methods]
    cells += [(f"float32/{t}/{m}", t, m) for t, m in FLOAT32_CHECKS if t in tasks and m in methods]
    return cells


def rate_key(task: str, method: str, lr: float) -> str:
    return f"rates/{task}/{method}/{lr:g}"


def chosen_rate(results: Cells, method: str) -> float:
    """The candidate that is best on average, the lower among equals.

    Full-length runs decide among the candidates that have them on every task on which at least two do (see
    `--rate`); without such, the reduced runs, among the candidates that have all of them; else the rate of
    a relative; else 0.
    """
    return decision(results, method)[0]


def decision(results: Cells, method: str) -> tuple[float, str]:
    """The rate of `chosen_rate`, and what decided: "full", "reduced" or the name of a relative, else ""."""
    full = [_values({lr: at_rate(results, task, method, lr) for lr in RATES[method]}) for task in TASKS]
    reduced = [
        _values({lr: results.get(rate_key(task, method, lr)) for lr in RATES[method]}) for task in RATE_TASKS
    ]
    for by, runs, least in (("full", full, 2), ("reduced", reduced, 1)):
        compared = [values for values in runs if len(values) >= least]
        common = [lr for lr in RATES[method] if compared and all(lr in values for values in compared)]
        if len(common) >= least:
            return max(common, key=lambda lr: (sum(values[lr] for values in compared), -lr)), by
    relative = RELATIVES.get(method, "")
    return (chosen_rate(results, relative), relative) if relative else (0.0, "")


def _values(cells: dict[float, dict[str, Any] | None]) -> dict[float, float]:
    return {lr: cell["value"] for lr, cell in cells.items() if cell}


def at_rate(results: Cells, task: str, method: str, lr: float) -> dict[str, Any] | None:
    """The full-length cell that was trained at this rate, in the table or tried."""
    cell: dict[str, Any] | None = results.get(f"{task}/{method}")
    if cell is None or cell["settings"]["lr"] != lr:
        cell = results.get(f"tried/{task}/{method}/{lr:g}")
    return cell


def is_missing(key: str, method: str, results: Cells) -> bool:
    """Whether a cell has not been run, or with a rate that is not the chosen one any more."""
    cell = results.get(key)
    if cell is None or not key.startswith(tuple(TASKS)):
        return cell is None
    rate = chosen_rate(results, method)  # 0: none has been compared, so the default was taken
    return bool(rate and cell["settings"]["lr"] != rate)


def settle(results: Cells) -> Cells:
    """The results with the cells of the chosen rates in the table and the others as tried."""
    settled = dict(results)
    for task in TASKS:
        for method in RATES:
            now, lr = results.get(f"{task}/{method}"), chosen_rate(results, method)
            better = results.get(f"tried/{task}/{method}/{lr:g}")
            if now and better and now["settings"]["lr"] != lr:
                settled[f"tried/{task}/{method}/{now['settings']['lr']:g}"] = now
                settled[f"{task}/{method}"] = settled.pop(f"tried/{task}/{method}/{lr:g}")
    return settled


def cell_of(key: str, method: str, results: Cells) -> Cell:
    common: dict[str, Any] = {
        "batch_size": BATCH_SIZE.get(method, 32),
        "options": OPTIONS.get(method, {}),
        "evaluate_steps": AT_THE_END,
    }
    section, *_, last = key.split("/")
    if section == "rates":
        return Cell(method, float(last), RATE_EPOCHS, **common)
    precision = "float32" if section == "float32" else "bfloat16"
    lr = float(last) if section == "tried" else chosen_rate(results, method)
    return Cell(method, lr, EPOCHS, precision=precision, **common)


def to_train(name: str, cells: Iterable[tuple[str, str, str]], seed: int, *, again: bool) -> Iterator[Wanted]:
    """The cells that are missing when it is their turn, with the rates that are chosen by then."""
    for key, task, method in cells:
        results = record.read(name)
        if again or is_missing(key, method, results):
            settings = {"max_train_rows": RATE_ROWS} if key.startswith("rates/") else TASKS[task]
            yield Wanted(key, task, cell_of(key, method, results), seed, settings)


def add(name: str, key: str, cell: Cells) -> None:
    """Into the results; the same cell at another rate is kept as tried."""
    before = record.read(name).get(key)
    if before is not None and before["settings"]["lr"] != cell["settings"]["lr"]:
        record.add(name, f"tried/{key}/{before['settings']['lr']:g}", before)
    record.add(name, key, cell)
    record.change(name, settle)


@dataclass(frozen=True)
class Line:
    """A method's scores (x 100) by task, its trained parameters, their share of the backbone in percent.

    `otherwise`: tasks whose cell was trained at another rate than the one that is chosen by now.
    """

    method: str
    scores: dict[str, float]
    parameters: int
    share: float
    otherwise: frozenset[str] = frozenset()

    def average(self, tasks: Iterable[str]) -> float | None:
        """Over `tasks`; None while one of them is missing."""
        found = [self.scores.get(task) for task in tasks]
        return sum(x for x in found if x is not None) / len(found) if found and None not in found else None


def lines(cells: Cells) -> list[Line]:
    """Every method that has a cell, the one with the fewest parameters first."""
    found = []
    for method in RATES:
        own = {task: cells[f"{task}/{method}"] for task in TASKS if f"{task}/{method}" in cells}
        if own:
            first = next(iter(own.values()))
            scores = {task: 100 * cell["value"] for task, cell in own.items()}
            otherwise = frozenset(task for task in own if is_missing(f"{task}/{method}", method, cells))
            found.append(Line(method, scores, first["parameters"], first["share_percent"], otherwise))
    return sorted(found, key=lambda line: line.parameters)


def complete_tasks(found: list[Line]) -> list[str]:
    """The tasks that every method has, the costly ones aside."""
    general = [line for line in found if line.method not in COSTLY]
    return [task for task in TASKS if general and all(task in line.scores for line in general)]


def quality(cells: Cells) -> str:
    """Score per task, the average over complete tasks, its distance to full's and share of it, parameters."""
    found = lines(cells)
    tasks = [task for task in TASKS if any(task in line.scores for line in found)]
    complete = complete_tasks(found)
    full = next((line.average(complete) for line in found if line.method == FULL), None)
    named = f"average of {', '.join(complete)}" if complete else "average"
    head = ["method", *tasks, named, "to full", "of full", "trained parameters", "share"]
    rows = []
    for line in found:
        average = line.average(complete)
        rows.append(
            [
                f"`{line.method}`",
                *(_shown(line.scores.get(task)) + "*" * (task in line.otherwise) for task in tasks),
                _shown(average),
                "" if average is None or full is None else f"{average - full:+.1f}",
                "" if average is None or full is None else f"{100 * average / full:.1f} %",
                f"{line.parameters:,}",
                f"{line.share:.3f} %",
            ]
        )
    return tables.table(head, rows)


def rates(cells: Cells) -> str:
    """The reduced runs: the scores of every candidate on each task, the chosen one in bold.

    With a dagger where full-length runs chose it.
    """
    candidates = sorted({lr for tried in RATES.values() for lr in tried})
    rows = []
    for method, tried in RATES.items():
        shown = {lr: _reduced(cells, method, lr) for lr in tried}
        if any(shown.values()):
            chosen, by = decision(cells, method)
            shown[chosen] = f"**{shown[chosen]}**" + "†" * (by == "full")
            rows.append([f"`{method}`", *(shown.get(lr, "") for lr in candidates)])
    return tables.table(["method", *(f"{lr:g}" for lr in candidates)], rows)


def defaults(cells: Cells) -> str:
    """The rate that `trunkline train` takes for each method, and what chose it; a test compares the two."""
    why = {"full": "full-length runs", "reduced": "reduced runs"}
    rows = []
    for method in RATES:
        chosen, by = decision(cells, method)
        if by:
            rows.append([f"`{method}`", f"{DEFAULTS[method].lr:g}", f"{chosen:g}", why.get(by, f"`{by}`")])
    return tables.table(["method", "default rate", "chosen here", "by"], rows)


def _reduced(cells: Cells, method: str, lr: float) -> str:
    """Scores of a candidate, task by task."""
    found = [cells.get(rate_key(task, method, lr)) for task in RATE_TASKS]
    return " / ".join(tables.points(cell["value"]) for cell in found if cell)


def tried(cells: Cells) -> str:
    """Cells of an earlier choice of the rate, beside the present one."""
    rows = []
    for key, cell in cells.items():
        if key.startswith("tried/"):
            now = cells[f"{cell['task']}/{cell['method']}"]
            shown = [f"{tables.points(c['value'])} at {c['settings']['lr']:g}" for c in (cell, now)]
            rows.append([cell["task"], f"`{cell['method']}`", *shown])
    return tables.table(["task", "method", "tried", "in the table"], sorted(rows))


def precision(cells: Cells) -> str:
    """Cells that were trained with products in bfloat16 and once more in float32."""
    rows = []
    for task, method in FLOAT32_CHECKS:
        pair = [cells.get(f"{task}/{method}"), cells.get(f"float32/{task}/{method}")]
        if all(pair):
            rows.append([task, f"`{method}`", *(tables.points(cell["value"]) for cell in pair if cell)])
    return tables.table(["task", "method", "products in bfloat16", "in float32"], rows)


def _shown(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}"


def main() -> int:
    parser = tables.options(__doc__, TASKS, RATES, timed=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default=NAME, help="result file (use another one for trials)")
    parser.add_argument("--rate", type=float, help="try the cells at this rate; where it is better it stays")
    parser.add_argument("--borrow", action="store_true", help="no reduced runs: take the rates there are")
    parser.add_argument("--again", action="store_true", help="run cells that are there already")
    args = parser.parse_args()
    cells = wanted(args.task or list(TASKS), args.method or list(RATES))
    if args.rate:
        cells = [
            (f"tried/{task}/{method}/{args.rate:g}", task, method)
            for task in args.task or TASKS
            for method in args.method or RATES
            if at_rate(record.read(args.name), task, method, args.rate) is None
        ]
    if args.borrow:
        cells = [cell for cell in cells if not cell[0].startswith("rates/")]
    if not args.table:
        found = to_train(args.name, cells, args.seed, again=args.again)
        train_cells(args.name, found, args.data, args.minutes, add)
    results = record.read(args.name)
    print(f"{rates(results)}\n\n{quality(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
