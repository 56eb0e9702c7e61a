"""Every method on real text, in the shape of the papers' Table 1; all on MiniLM, with one protocol.

The learning rate of each method is chosen by validation from the decades 3e-5 ... 3e-1 on a reduced run
(TREC, 2,000 rows, 2 epochs) and then used for all tasks. Every method starts from the same head (stage one
on the frozen backbone) and trains for the same epochs; it is scored when they are over (the head that it
started with counts if that is better). Training steps multiply in bfloat16 (see `mixed_precision`),
evaluation is float32; two cells are repeated in float32 as a check.

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
RATE_EPOCHS, RATE_ROWS, RATE_TASK = 2, 2_000, "trec"
# settings of the data: rows of the train file, and the metric that decides where the paper averages two
TASKS: dict[str, dict[str, Any]] = {
    "trec": {},
    "stackoverflow20": {"max_train_rows": 5_000},
    "sst2": {"max_train_rows": 5_000},
    "cola": {},
    "mrpc": {"metric": "f1+accuracy"},
    "stsb": {"metric": "pearson+spearman"},
}
# candidates for the rate; none for the probe, which has no body
RATES: dict[str, tuple[float, ...]] = {
    PROBE: (),
    FULL: (3e-5, 3e-4),
    "hadamard": (3e-3, 3e-2),
    "compacter": (3e-3, 3e-2),
    "compacter_pp": (3e-3, 3e-2),
    "bitfit": (3e-3, 3e-2),
    "houlsby": (3e-4, 3e-3),
    "lora": (3e-4, 3e-3),
    "pfeiffer": (3e-4, 3e-3),
    "phm": (3e-3, 3e-2),
    "low_rank_adapter": (3e-3, 3e-2),
    "ia3": (3e-3, 3e-2),
    "ln_tuning": (3e-3, 3e-2),
    "adapter_drop": (3e-4, 3e-3),
    "prompt_tuning": (3e-2, 3e-1),
    "intrinsic_said": (3e-3, 3e-2),
}
OPTIONS: dict[str, dict[str, Any]] = {"prompt_tuning": {"tokens": 20}}
# a step of SAID transforms as many numbers as the backbone has, whatever its batch: few and large ones
BATCH_SIZE = {"intrinsic_said": 128}
ONLY_TASKS = {"intrinsic_said": ("trec",)}
FLOAT32_CHECKS = (("trec", FULL), ("trec", "hadamard"))


def wanted(tasks: list[str], methods: list[str]) -> list[tuple[str, str, str]]:
    """(section, task, method) of every cell, in the order in which they are worth having."""
    cells = [
        (f"rates/{method}/{lr:g}", RATE_TASK, method) for method in methods for lr in RATES.get(method, ())
    ]
    for task in tasks:
        for method in methods:
            if task in ONLY_TASKS.get(method, TASKS):
                cells.append((f"{task}/{method}", task, method))
    cells += [(f"float32/{t}/{m}", t, m) for t, m in FLOAT32_CHECKS if t in tasks and m in methods]
    return cells


def chosen_rate(results: dict[str, Any], method: str) -> float:
    """The candidate with the best validation metric of the reduced run, the lower among equals; else 0."""
    found = [(results.get(f"rates/{method}/{lr:g}"), lr) for lr in RATES[method]]
    done = [(cell["value"], -lr) for cell, lr in found if cell]
    return -max(done)[1] if done else 0.0


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
    return Cell(method, chosen_rate(results, method), EPOCHS, precision=precision, **common)


def run(cells: list[tuple[str, str, str]], data: Path, seed: int, name: str, until: float) -> None:
    """Train the cells in order; one task's data is kept at a time. Stops when the clock says `until`."""
    from benchmarks.cells import TaskBench, open_backbone

    backbone = open_backbone()
    opened: tuple[Any, Any] = (None, None)
    for key, task, method in cells:
        if time.time() > until:
            print("out of time; run again to go on")
            return
        settings = {"max_train_rows": RATE_ROWS} if key.startswith("rates/") else TASKS[task]
        if opened[0] != (task, settings):
            opened = ((task, settings), TaskBench(backbone, data, task, seed, settings))
        cell = opened[1].run(cell_of(key, method, record.read(name)))
        record.add(name, key, cell)
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
    parser.add_argument("--again", action="store_true", help="run cells that are there already")
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    args = parser.parse_args()
    cells = wanted(args.task or list(TASKS), args.method or list(RATES))
    missing = [cell for cell in cells if args.again or cell[0] not in record.read(args.name)]
    if missing and not args.table:
        run(missing, args.data, args.seed, args.name, time.time() + 60 * args.minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
