"""Does a small adapter keep what full fine-tuning reaches? Validation metrics on five public data sets.

For each task: the linear probe, every method with a body, and full fine-tuning (the baseline) on the same
backbone, data, loop and metric. Prints one table with two figures per method: its share of full
fine-tuning's score, and the part of the way from the probe to full fine-tuning that it covers (of the
averages, and as the mean of the tasks' own shares).

    python -m benchmarks.quality --data ../shared/data            # resumes: finished cells are kept
    python -m benchmarks.quality --data DIR --task trec --method hadamard --again
    python -m benchmarks.quality --table                          # only print what there is
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import record, tables
from training.run import train
from training.settings.config import TrainConfig

NAME = "quality"
# rows of the train file (None: all), and the metric that decides where the card names several
TASKS: dict[str, dict[str, Any]] = {
    "trec": {},
    "banking77": {},
    "mrpc": {"metric": "accuracy"},
    "stsb": {},
    "sst2": {"max_train_rows": 10_000},
}
PROBE, FULL = "linear_probe", "full"
METHODS = (PROBE, FULL, "hadamard", "bitfit", "ln_tuning")


def run_cell(task: str, method: str, data: Path, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one cell of the table and return its record."""
    started = time.monotonic()
    given = TASKS[task] | settings
    config = TrainConfig(data=str(data / task), task=task, method=method, seed=seed, **given)
    result = train(config, write_file=False)
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "metric": result.metric,
        "value": result.value,
        "values": dict(result.metrics),
        "head_only": result.head_metrics[result.metric] if result.head_metrics else None,
        "parameters": result.num_body_parameters,
        "best_epoch": result.best_epoch,
        "curve": [
            [r.stage, r.epoch, round(r.values[result.metric], 5)] for r in result.history if r.stage != "head"
        ],
        "settings": {**settings, **result.hyper},
        "seconds": round(time.monotonic() - started),
        "origin": record.origin(),
    }


def table(cells: dict[str, Any]) -> str:
    """Rows are methods, columns tasks; then the two figures of the issue, averaged over complete tasks."""
    rows = []
    for method in METHODS:
        found = {task: cells.get(f"{task}/{method}") for task in TASKS}
        values = {task: 100 * cell["value"] for task, cell in found.items() if cell}
        row = [f"{values[task]:.2f}" if task in values else "" for task in TASKS]
        average = f"{sum(values.values()) / len(values):.2f}" if len(values) == len(TASKS) else ""
        rows.append([method, *row, average, *_shares(cells, method)])
    shares = ("of full", "of the way from probe to full", "mean of the tasks' own")
    return tables.table(["method", *TASKS, "average", *shares], rows)


def _shares(cells: dict[str, Any], method: str) -> list[str]:
    """Share of full's average score; then the way covered, of the averages and as the mean of the tasks' own.

    The two differ: the averages are led by the task with the largest distance, and the mean of ratios by
    the one with the smallest, so both are told.
    """
    rows = []
    for task in TASKS:
        three = [cells.get(f"{task}/{name}") for name in (method, PROBE, FULL)]
        if not all(three):
            return ["", "", ""]
        rows.append([cell["value"] for cell in three if cell])
    value, probe, full = (sum(column) for column in zip(*rows, strict=True))
    own = [(v - p) / (f - p) for v, p, f in rows]
    shares = (value / full, (value - probe) / (full - probe), sum(own) / len(own))
    return [f"{100 * share:.1f} %" for share in shares]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> int:
    parser = tables.options(__doc__, TASKS, METHODS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a training setting")
    parser.add_argument("--name", default=NAME, help="result file (use another one for trials)")
    parser.add_argument("--again", action="store_true", help="run cells that are there already")
    args = parser.parse_args()
    settings = {key: _value(text) for key, _, text in (pair.partition("=") for pair in args.set)}
    for task in args.task or TASKS:
        for method in args.method or METHODS:
            key = f"{task}/{method}"
            if args.table or (key in record.read(args.name) and not args.again):
                continue
            cell = run_cell(task, method, args.data, args.seed, settings)
            record.add(args.name, key, cell)
            print(key, cell["metric"], f"{100 * cell['value']:.2f}", f"{cell['seconds']} s", flush=True)
    print(table(record.read(args.name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
