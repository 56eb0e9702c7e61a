"""Every method on real text, in the shape of the papers' Table 1; all on MiniLM, with one protocol.

The learning rate of each method is chosen by validation from the decades 3e-5 ... 3e-1 and some between, on
reduced runs (2,000 rows of TREC and of SST-2, 2 epochs; the best on average) and is then used for all
tasks. Every method starts from the same head (stage one on the frozen backbone) and trains for the same
epochs; it is scored at the end (its first head counts if that is better). Training steps multiply in
bfloat16 (see `mixed_precision`), evaluation is float32; two cells are repeated in float32 as a check.

    python -m benchmarks.method_quality --data ../shared/data       # resumes: finished cells are kept
    python -m benchmarks.method_quality --task trec --method lora --again
    python -m benchmarks.method_quality --table                     # only print what there is
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import record

NAME = "method_quality"
PROBE, FULL = "linear_probe", "full"
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
    """The reduced run of a candidate."""
    return f"rates/{task}/{method}/{lr:g}"


def chosen_rate(results: dict[str, Any], method: str) -> float:
    """The candidate that is best on average, the lower among equals.

    Full-length runs decide among the candidates that have them on every task on which at least two do (see
    `--rate`); without such, the reduced runs, among the candidates that have all of them; else the rate of
    a relative; else 0.
    """
    return decision(results, method)[0]


def decision(results: dict[str, Any], method: str) -> tuple[float, str]:
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


def at_rate(results: dict[str, Any], task: str, method: str, lr: float) -> dict[str, Any] | None:
    """The full-length cell that was trained at this rate, in the table or tried."""
    cell: dict[str, Any] | None = results.get(f"{task}/{method}")
    if cell is None or cell["settings"]["lr"] != lr:
        cell = results.get(f"tried/{task}/{method}/{lr:g}")
    return cell


def is_missing(key: str, method: str, results: dict[str, Any]) -> bool:
    """Whether a cell has not been run, or with a rate that is not the chosen one any more."""
    cell = results.get(key)
    if cell is None or not key.startswith(tuple(TASKS)):
        return cell is None
    rate = chosen_rate(results, method)  # 0: none has been compared, so the default was taken
    return bool(rate and cell["settings"]["lr"] != rate)


def settle(results: dict[str, Any]) -> dict[str, Any]:
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


def cell_of(key: str, method: str, results: dict[str, Any]) -> Any:
    """What to train for a key."""
    from benchmarks.cells import Cell

    common: dict[str, Any] = {
        "batch_size": BATCH_SIZE.get(method, 32),
        "options": OPTIONS.get(method, {}),
        "evaluate_steps": AT_THE_END,
    }
    if key.startswith("rates/"):
        lr = float(key.rpartition("/")[2])
        return Cell(method, lr, RATE_EPOCHS, **common)
    precision = "float32" if key.startswith("float32/") else "bfloat16"
    tried = float(key.rpartition("/")[2]) if key.startswith("tried/") else None
    return Cell(method, tried or chosen_rate(results, method), EPOCHS, precision=precision, **common)


def run(
    cells: list[tuple[str, str, str]], data: Path, seed: int, name: str, until: float, *, again: bool
) -> None:
    """Train the cells in order; one task's data is kept at a time. Stops when the clock says `until`."""
    from benchmarks.cells import TaskBench, open_backbone

    backbone = open_backbone()
    opened: tuple[Any, Any] = (None, None)
    for key, task, method in cells:
        if time.time() > until:
            print("out of time; run again to go on")
            return
        if not (again or is_missing(key, method, record.read(name))):
            continue  # another process has done it meanwhile
        settings = {"max_train_rows": RATE_ROWS} if key.startswith("rates/") else TASKS[task]
        if opened[0] != (task, settings):
            opened = ((task, settings), TaskBench(backbone, data, task, seed, settings))
        cell = opened[1].run(cell_of(key, method, record.read(name)))
        before = record.read(name).get(key)
        if before is not None and before["settings"]["lr"] != cell["settings"]["lr"]:
            record.add(name, f"tried/{key}/{before['settings']['lr']:g}", before)
        record.add(name, key, cell)
        record.change(name, settle)
        print(key, cell["metric"], f"{100 * cell['value']:.2f}", f"{cell['seconds']} s", flush=True)


def main() -> int:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of data sets")
    parser.add_argument("--task", action="append", choices=TASKS, help="only these tasks")
    parser.add_argument("--method", action="append", choices=RATES, help="only these methods, in this order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default=NAME, help="result file (use another one for trials)")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no cell after this time")
    parser.add_argument("--rate", type=float, help="try the cells at this rate; where it is better it stays")
    parser.add_argument("--borrow", action="store_true", help="no reduced runs: take the rates there are")
    parser.add_argument("--again", action="store_true", help="run cells that are there already")
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
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
    found = record.read(args.name)
    missing = args.again or any(is_missing(key, method, found) for key, _, method in cells)
    if missing and not args.table:
        until = time.time() + 60 * args.minutes
        run(cells, args.data, args.seed, args.name, until, again=args.again)
    from benchmarks import quality_tables

    results = record.read(args.name)
    print("\n\n".join(show(results) for show in (quality_tables.rates, quality_tables.quality)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
