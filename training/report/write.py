"""A learning curve (PNG) and a short report (Markdown) about a finished run, for people."""

from collections.abc import Sequence
from pathlib import Path

from training.data.load import TaskData
from training.report.result import TrainResult
from training.settings.config import TrainConfig

_Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write_report(folder: Path, config: TrainConfig, data: TaskData, result: TrainResult) -> Path:
    """Write `<task>.md` and `<task>.png` into `folder`; returns the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_curve(folder / f"{config.task}.png", result)
    path = folder / f"{config.task}.md"
    path.write_text("\n".join(_lines(config, data, result)) + "\n", encoding="utf-8")
    return path


def draw_curve(path: Path, result: TrainResult) -> None:
    """Loss and validation metric over the epochs of both stages, one picture."""
    from matplotlib.figure import Figure  # slow to import, and only a report needs it

    stages = list(dict.fromkeys(record.stage for record in result.history))
    figure = Figure(figsize=(4.5 * max(1, len(stages)), 3.6), layout="constrained")
    axes = figure.subplots(1, max(1, len(stages)), squeeze=False)[0]
    for axis, stage in zip(axes, stages, strict=False):
        records = [record for record in result.history if record.stage == stage]
        epochs = [record.epoch for record in records]
        losses = [float("nan") if record.loss is None else record.loss for record in records]
        axis.plot(epochs, losses, color="tab:gray", label="train loss")
        validation = [record.validation_loss for record in records]
        axis.plot(epochs, validation, color="tab:gray", ls="--", label="validation loss")
        axis.set(title=f"stage {stage}", xlabel="epoch", ylabel="loss")
        metric_axis = axis.twinx()
        values = [record.values[result.metric] for record in records]
        metric_axis.plot(epochs, values, color="tab:blue", label=result.metric)
        metric_axis.set_ylabel(result.metric, color="tab:blue")
        axis.legend(fontsize="small")
    figure.suptitle(f"{result.task}: {result.method} on {result.backbone}")
    figure.savefig(path, dpi=110)


def _lines(config: TrainConfig, data: TaskData, result: TrainResult) -> list[str]:
    return [
        f"# {result.task}: {result.method} on {result.backbone}",
        "",
        *([config.description, ""] if config.description else []),
        f"![learning curve]({config.task}.png)",
        "",
        "## What was understood of the data",
        "",
        *_markdown((("what", "found"), data.page.facts())),
        "",
        "## Scores on the validation rows",
        "",
        *_markdown(_scores(result)),
        "",
        *_per_label(data, result),
        "## What was trained",
        "",
        *_markdown((("what", "value"), _facts(result))),
        "",
        *_section("Warnings", result.warnings),
        *_section("Notes", result.notes),
        "## Settings",
        "",
        *_markdown((("setting", "value"), [(k, str(v)) for k, v in _settings(config, result).items()])),
    ]


def _scores(result: TrainResult) -> _Table:
    names = sorted(result.metrics, key=lambda name: (name != result.metric, name))
    head = result.head_metrics or {}
    rows = [
        (
            f"**{name}**" if name == result.metric else name,
            _number(result.baseline.values.get(name)),
            _number(head.get(name)),
            _number(result.metrics[name]),
        )
        for name in names
    ]
    return ("metric", result.baseline.name, "after stage one", "final"), rows


def _per_label(data: TaskData, result: TrainResult) -> list[str]:
    """Precision, recall and F1 by label; nothing where answers are numbers."""
    found = result.evaluation.task.by_label(result.evaluation.logits, data.validation.targets)
    rows = [
        (one.name, str(one.num_right), _number(one.precision), _number(one.recall), _number(one.f1))
        for one in found
    ]
    head = ("label", "spans" if result.evaluation.task.reads_words else "rows", "precision", "recall", "F1")
    return ["## By label", "", *_markdown((head, rows)), ""] if rows else []


def _facts(result: TrainResult) -> list[tuple[str, str]]:
    mean, deviation = result.spread
    facts = [
        ("train rows", f"{result.num_train:,}"),
        ("validation rows", f"{result.num_validation:,}"),
        ("adapter parameters", f"{result.num_body_parameters:,} ({result.body_share:.4%} of the backbone)"),
        ("head parameters", f"{result.num_head_parameters:,}"),
        ("best epoch of stage two", str(result.best_epoch)),
        ("seed", str(result.seed)),
        ("time", f"{result.seconds:.0f} s"),
    ]
    if len(result.seed_values) > 1:
        name = f"{result.metric} over {len(result.seed_values)} seeds"
        facts.append((name, f"{mean:.4f} +/- {deviation:.4f}"))
    if result.file is not None:
        file = result.file
        facts.append(("file", f"{Path(file.path).name}, {file.size_bytes:,} bytes"))
        facts.append(("digest", file.digest))
        facts.append(("probes", f"{file.num_probes}, differ by {file.max_probe_difference:.1e}"))
    return facts


def _settings(config: TrainConfig, result: TrainResult) -> dict[str, object]:
    given = {k: v for k, v in config.public_dict().items() if v is not None and k not in result.hyper}
    return given | dict(result.hyper)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _markdown(table: _Table) -> list[str]:
    head, rows = table
    body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *body]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
