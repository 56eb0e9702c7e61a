"""What the cells of `method_quality` say: the table in the shape of the papers' Table 1, rates, precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.method_quality import (
    COSTLY,
    FLOAT32_CHECKS,
    FULL,
    RATE_TASKS,
    RATES,
    TASKS,
    decision,
    is_missing,
    rate_key,
)

Cells = dict[str, Any]


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
    return _table(head, rows)


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
    return _table(["method", *(f"{lr:g}" for lr in candidates)], rows)


def _reduced(cells: Cells, method: str, lr: float) -> str:
    """Scores of a candidate, task by task."""
    found = [cells.get(rate_key(task, method, lr)) for task in RATE_TASKS]
    return " / ".join(_shown(100 * cell["value"]) for cell in found if cell)


def tried(cells: Cells) -> str:
    """Cells of an earlier choice of the rate, beside the present one."""
    rows = []
    for key, cell in cells.items():
        if key.startswith("tried/"):
            now = cells[f"{cell['task']}/{cell['method']}"]
            shown = [f"{_shown(100 * c['value'])} at {c['settings']['lr']:g}" for c in (cell, now)]
            rows.append([cell["task"], f"`{cell['method']}`", *shown])
    return _table(["task", "method", "tried", "in the table"], sorted(rows))


def precision(cells: Cells) -> str:
    """Cells that were trained with products in bfloat16 and once more in float32."""
    rows = []
    for task, method in FLOAT32_CHECKS:
        pair = [cells.get(f"{task}/{method}"), cells.get(f"float32/{task}/{method}")]
        if all(pair):
            rows.append([task, f"`{method}`", *(_shown(100 * cell["value"]) for cell in pair if cell)])
    return _table(["task", "method", "products in bfloat16", "in float32"], rows)


def _shown(score: float | None) -> str:
    return "" if score is None else f"{score:.1f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    marks = ["---", *("--:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, marks, *rows])
