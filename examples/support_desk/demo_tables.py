"""The demo's two tables. Knows how answers and scores look; asks nobody and checks nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from trunkline import Prediction

METRIC_NAMES = {
    "accuracy": "accuracy",
    "micro_f1": "micro F1",
    "pearson_spearman": "correlation",
    "mae": "mean error (lower is better)",
}


@dataclass(frozen=True)
class Asked:
    """One answer with the request it came in: "single", "batch" or "all at once"."""

    request: str
    text: str | tuple[str, str]
    prediction: Prediction


@dataclass(frozen=True)
class TaskReport:
    """What one task scores and costs. `scores` are (metric, value, value of the baseline or None)."""

    task: str
    num_rows: int
    scores: tuple[tuple[str, float, float | None], ...]
    baseline_name: str
    file_bytes: int
    num_adapter: int
    num_head: int
    num_backbone: int


def answers_table(asked: Sequence[Asked]) -> Table:
    """Request, text, task, answer and score; a text stands once for all its tasks."""
    table = Table(title="Answers over HTTP", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("request", "text", "task", "answer"):
        table.add_column(name, overflow="fold", ratio={"text": 5, "answer": 2}.get(name))
    table.add_column("score", justify="right")
    before: Asked | None = None
    for item in asked:
        same = before is not None and (item.request, item.text) == (before.request, before.text)
        request = "" if before is not None and item.request == before.request else item.request
        table.add_row(
            request, "" if same else _text(item.text), item.prediction.task, *_answer(item.prediction)
        )
        before = item
    return table


def scores_table(reports: Sequence[TaskReport]) -> Table:
    """Score beside the trivial baseline, and what the task costs on top of the backbone."""
    title = "Held-out rows, answered over HTTP in mixed batches; and what each task costs"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task")
    for name in ("rows", "metric", "score", "baseline", "file", "adapter", "head", "share of backbone"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for report in reports:
        for number, (metric, value, baseline) in enumerate(report.scores):
            shown = f"{value:.3f}", "–" if baseline is None else f"{baseline:.3f}"
            facts = (report.task, f"{report.num_rows}") if number == 0 else ("", "")
            table.add_row(
                *facts, METRIC_NAMES.get(metric, metric), *shown, *(_costs(report) if number == 0 else ())
            )
    return table


def _costs(report: TaskReport) -> tuple[str, ...]:
    share = report.num_adapter / report.num_backbone
    return (
        f"{report.file_bytes / 1000:.1f} kB",
        f"{report.num_adapter:,}",
        f"{report.num_head:,}",
        f"{share:.3%}",
    )


def _text(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else f"{text[0]}\n{text[1]}"


def _answer(prediction: Prediction) -> tuple[str, str]:
    score = "" if prediction.score is None else f"{prediction.score:.2f}"
    if prediction.label is None:
        return f"{prediction.score:.1f}", score
    if isinstance(prediction.label, str):
        return prediction.label, score
    return ", ".join(prediction.label) or "(no tag)", score
