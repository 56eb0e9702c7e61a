"""The page about a finished run: what was understood, learnt and measured, and which rows are wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from training.data.load import TaskData
from training.loop.encode import Rows
from training.report.calibrate import Calibration
from training.report.drawing import Series, lines
from training.report.page import Figure, Page, Section, check_place, page_path, write_page
from training.report.result import TrainResult
from training.report.sections import (
    Shown,
    facts_section,
    lengths_section,
    rows_table,
    scores_section,
    sections_of,
)
from training.report.suspects import can_be_suspected, suspected
from training.rows.examples import Split
from training.settings.config import TrainConfig
from training.tasks.judged import Judged

_SUSPECTS_SHOWN = 100


def write_report(
    report: str, config: TrainConfig, data: TaskData, encoded: tuple[Rows, Rows], result: TrainResult
) -> Path:
    """Write the page to `report` (a path ending in .html, or a folder); returns where it is.

    `encoded` are the train and the validation rows as tokens.
    """
    return write_page(page_path(report, config.task), training_page(config, data, encoded, result))


def check_report(config: TrainConfig) -> None:
    """Raises ConfigError where the page could not be written when all is done."""
    if config.report is not None:
        check_place("report", page_path(config.report, config.task))


def training_page(
    config: TrainConfig, data: TaskData, encoded: tuple[Rows, Rows], result: TrainResult
) -> Page:
    """Everything that is known of a run."""
    final, task = result.evaluation, result.evaluation.task
    spec, targets = task.spec("none"), data.validation.targets
    judged = task.judged(result.calibration.applied(spec), final.logits, targets)
    before = None
    if result.calibration.temperature is not None:
        before = task.judged(Calibration(0).applied(spec), final.logits, targets)
    abstain = result.calibration.abstain
    shown = _shown(data.validation, judged, None if abstain is None else abstain.threshold)
    splits = zip(("train", "validation"), encoded, strict=True)
    tokens = {name: [text.num_tokens for text in rows.encoded] for name, rows in splits}
    lengths = lengths_section(tokens, result.hyper["max_tokens"])
    found = [
        _scores(result),
        *_listed("Warnings", result.warnings),
        *_curves(result),
        facts_section("What was understood of the data", data.page.facts()),
        *sections_of(shown, before, lengths),
        suspects_section(data.train, result),
        *_listed("Notes", (*result.notes, *result.calibration.told())),
        facts_section("What was trained", _facts(result)),
        facts_section("Settings", _settings(config, result)),
    ]
    title = f"{result.task}: {result.method} on {result.backbone}"
    held_out = f"Measured on {result.num_validation:,} held-out rows of {data.validation.source}."
    return Page(title, (*([config.description] if config.description else []), held_out), found)


def suspects_section(train: Split, result: TrainResult) -> Section:
    """Train rows whose labels are in doubt, by answers of heads that have not seen them."""
    title, logits = "Suspected label errors", result.out_of_fold
    if logits is None:
        why = "No head was trained without some of the train rows, as cross-validation in stage one does"
        return Section(title, (f"{why}: none of them can be suspected.",))
    task = result.evaluation.task
    shown = _shown(train, task.judged(task.spec("none"), logits, train.targets), None)
    if not can_be_suspected(shown.judged):
        return Section(title, ("Answers of this kind are neither right nor wrong: none can be suspected.",))
    rows = suspected(shown.judged)
    if not len(rows):
        return Section(title, (f"None of {len(train):,} train rows.",))
    words = [
        f"{len(rows):,} of {len(train):,} train rows: a head that was trained without the row is as sure of "
        "another answer as it is of labels on average. The label is wrong, or the row is hard; worst first."
    ]
    if len(rows) > _SUSPECTS_SHOWN:
        words.append(f"The first {_SUSPECTS_SHOWN} are shown.")
    table = rows_table(shown, rows[:_SUSPECTS_SHOWN], "label in the data")
    return Section(title, tuple(words), tables=(table,))


def _shown(split: Split, judged: Judged, threshold: float | None) -> Shown:
    return Shown(judged, split.texts, [example.row for example in split.examples], threshold)


def _scores(result: TrainResult) -> Section:
    """Beside the trivial baseline and the head alone."""
    beside: dict[str, Mapping[str, float]] = {result.baseline.name: result.baseline.values}
    if result.head_metrics is not None:
        beside["head alone"] = result.head_metrics
    found = scores_section(result.metric, result.metrics, beside, result.method)
    if len(result.seed_values) == 1:
        return found
    mean, deviation = result.spread
    over = f"{result.metric} over {len(result.seed_values)} seeds"
    seeds = f"{over}: {mean:.4f} ± {deviation:.4f}; kept seed {result.seed}."
    return replace(found, words=(seeds,))


def _curves(result: TrainResult) -> Iterator[Section]:
    """Loss and deciding metric over the epochs of each stage; nothing where no stage had epochs."""
    figures = []
    for stage in dict.fromkeys(record.stage for record in result.history):
        records = [record for record in result.history if record.stage == stage]
        if len(records) == 1:  # a head is fitted in one go
            continue
        losses = [("train", "a", [(r.epoch, r.loss) for r in records if r.loss is not None])]
        losses.append(("validation", "b", [(r.epoch, r.validation_loss) for r in records]))
        series = [Series(name, points, style) for name, style, points in losses]
        figures.append(
            Figure(lines(f"loss of stage {stage}", series, "epoch", "loss"), f"Stage {stage}: loss.")
        )
        values = [Series(result.metric, [(r.epoch, r.values[result.metric]) for r in records])]
        drawn = lines(f"{result.metric} of stage {stage}", values, "epoch", result.metric)
        figures.append(Figure(drawn, f"Stage {stage}: {result.metric} on the validation rows."))
    if figures:
        yield Section("Learning curves", figures=tuple(figures))


def _listed(title: str, found: Sequence[str]) -> Iterator[Section]:
    if found:
        yield Section(title, points=tuple(found))


def _facts(result: TrainResult) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("train rows", result.num_train),
        ("validation rows", result.num_validation),
        ("adapter parameters", f"{result.num_body_parameters:,} ({result.body_share:.4%} of the backbone)"),
        ("head parameters", result.num_head_parameters),
        ("best epoch of stage two", result.best_epoch),
        ("seed", result.seed),
        ("time", f"{result.seconds:.0f} s"),
    ]
    if result.file is None:
        return facts
    file = result.file
    return [
        *facts,
        ("file", f"{Path(file.path).name}, {file.size_bytes:,} bytes"),
        ("digest", file.digest),
        ("probes", f"{file.num_probes}, differ by {file.max_probe_difference:.1e}"),
    ]


def _settings(config: TrainConfig, result: TrainResult) -> list[tuple[str, object]]:
    given = {k: v for k, v in config.public_dict().items() if v is not None and k not in result.hyper}
    return [(name, str(value)) for name, value in {**given, **result.hyper}.items()]
