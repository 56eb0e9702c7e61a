"""The demo's two tables. Knows how answers and scores look; asks nobody and checks nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.table import Table
from rich.text import Text

from trunkline import Prediction

METRIC_NAMES = {
    "accuracy": "accuracy",
    "micro_f1": "micro F1",
    "pearson_spearman": "correlation",
    "mae": "mean error",
}
NOTE = (
    "correlation: the mean of Pearson's and Spearman's. mean error: in points of 10, lower is better. "
    "baseline: the commonest answer, or the mean, for every row. adapter: numbers added to the {backbone:,} "
    "of the backbone, without those of the heads ({least:,} to {most:,})."
)


@dataclass(frozen=True)
class Asked:
    """One answer, with the request that it came in described in a few words."""

    request: str
    text: str | tuple[str, str]
    prediction: Prediction


@dataclass(frozen=True)
class TaskReport:
    """What one task scores and costs. `scores` are (metric, value, value of the baseline or None)."""

    task: str
    num_rows: int
    scores: tuple[tuple[str, float, float | None], ...]
    file_bytes: int
    num_adapter: int
    num_head: int
    num_backbone: int


def answers_table(asked: Sequence[Asked]) -> Table:
    """Text, task, answer and score; a section per request, a row per text with all its tasks."""
    table = Table(title="Answers over HTTP", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("text", overflow="fold")
    table.add_column("task", no_wrap=True)
    table.add_column("answer", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    for request, items in groupby(asked, key=lambda item: item.request):
        table.add_section()
        table.add_row(Text(request, style="italic"))
        for text, group in groupby(items, key=lambda item: item.text):
            cells = [(item.prediction.task, *_answer(item.prediction)) for item in group]
            table.add_row(
                Text(_text(text)), *(Text("\n".join(column)) for column in zip(*cells, strict=True))
            )
    return table


def scores_table(reports: Sequence[TaskReport]) -> Table:
    """Score beside the trivial baseline, and what the task costs on top of the backbone."""
    title = "Held-out rows, answered over HTTP, and what each task costs"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("task")
    for name in ("rows", "metric", "score", "baseline", "file", "adapter", "share"):
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for report in reports:
        for number, (metric, value, baseline) in enumerate(report.scores):
            shown = f"{value:.3f}", "–" if baseline is None else f"{baseline:.3f}"
            facts = (report.task, f"{report.num_rows}") if number == 0 else ("", "")
            table.add_row(
                *facts, METRIC_NAMES.get(metric, metric), *shown, *(_costs(report) if number == 0 else ())
            )
    heads = [report.num_head for report in reports]
    table.caption = NOTE.format(backbone=reports[0].num_backbone, least=min(heads), most=max(heads))
    table.caption_justify = "left"
    return table


def _costs(report: TaskReport) -> tuple[str, ...]:
    share = report.num_adapter / report.num_backbone
    return (
        f"{report.file_bytes / 1000:.1f} kB",
        f"{report.num_adapter:,}",
        f"{share:.3%}",
    )


def _text(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else f"{text[0]}\n/ {text[1]}"


def _answer(prediction: Prediction) -> tuple[str, str]:
    score = "" if prediction.score is None else f"{prediction.score:.2f}"
    if prediction.label is None:
        return f"{prediction.score:.1f}", score
    if isinstance(prediction.label, str):
        return prediction.label, score
    return ", ".join(prediction.label) or "(no tag)", score
