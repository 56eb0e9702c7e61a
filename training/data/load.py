"""From files to checked examples: labels parsed, splits drawn, odd things said, everything digested.

Knows nothing of tokens or models. One bad row stops the run, and up to ten of them are told at once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.card import Card, Flags, find_splits, read_card
from training.data.reading import Reading, formatter_of, reading_of
from training.errors import DataError
from training.formats import FORMATS, Formatter, official_name
from training.metrics.scores import Metric, all_metrics, demand_metric, read_metric
from training.rows.examples import Example, Split, Target, digest_of, label_counts
from training.rows.items import BadFieldError, ChoiceItem, Item, parts_of, present
from training.rows.readers import Row, read_rows
from training.rows.split import draw_validation, paper_file, paper_rows, rule_for
from training.settings.config import TrainConfig
from training.tasks import TargetError, Task

_MAX_TOLD = 10
_FEW_ROWS = 30
_MAX_LABELS, _MAX_LABEL_CHARACTERS = 10_000, 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class TaskData:
    """What a run learns from: the task with its labels, both splits, and what a person should know.

    `official` is the GLUE or SuperGLUE task that the data set is, `split_rule` the paper's rule that was
    used; each None where there is none.
    """

    task: Task
    reading: Reading
    train: Split
    validation: Split
    digest: str
    notes: tuple[str, ...]
    official: str | None = None
    split_rule: str | None = None


def load_data(config: TrainConfig) -> TaskData:
    """Read, check and split the data of a run.

    Raises:
        DataError: unreadable files, bad rows (file, row, field, found, remedy), one-class data, too few rows.
        ConfigError: a metric that this kind of task has not, or a format that does not fit the rows.
    """
    data = Path(config.data)
    card = read_card(data, Flags.of(config))
    files = find_splits(data)
    if "train" not in files:
        raise DataError(f"{data}: no train file; found {', '.join(path.name for path in files.values())}")
    official = official_name(card.name, card.row_fields)
    reading = reading_of(card, formatter_of(card, config))
    names = card.label_names or _found_names(card, [files[s] for s in ("train", "validation") if s in files])
    task, metric_notes = _build(card, names, config, official, reading.formatter)
    rule = split_rule_of(official, files) if config.split_rule == "paper" else None
    if rule is None:
        task, train, validation, drawn = _file_splits(config, files, reading, task)
    else:
        train = read_part("train", rule, files, reading, task, config.max_train_rows)
        task, drawn = task.fitted(train.targets), [_paper_note(rule, config)]
        validation = read_part("validation", rule, files, reading, task, config.max_validation_rows)
    learnt = (replace(row, target=one) for row in train.examples for one in task.learnt(row.target))
    train = replace(train, examples=tuple(learnt))  # free text has an example for each answer
    _check_learnable(task, train, validation)
    notes = [*card.notes, *metric_notes, *_name_notes(card, names), *drawn]
    notes += [*_label_notes(task, train, validation), *_text_notes(train, validation)]
    digest = digest_of([card.kind, card.text_fields, task.labels], (train, validation))
    return TaskData(task, reading, train, validation, digest, tuple(notes), official, rule)


def split_rule_of(official: str | None, files: Mapping[str, Path]) -> str:
    """The paper's rule for an official task; for other data by the number of train rows."""
    if official is not None:
        return FORMATS[official].split_rule
    return rule_for(sum(1 for _ in read_rows(files["train"])))


def read_part(
    split: str, rule: str, files: Mapping[str, Path], reading: Reading, task: Task, max_rows: int | None
) -> Split:
    """A split as the paper's `rule` makes it. Raises DataError as `read_split`, or without its file."""
    file = paper_file(split, rule)
    if file not in files:
        raise DataError(
            f"the paper's rule ({rule}) takes the {split} rows out of a {file} file; there are only "
            f"{', '.join(files)}: add it, or leave --split-rule out"
        )
    whole = read_split(split, files[file], reading, task)
    rows = paper_rows(split, rule, len(whole), max_rows)
    return replace(whole, examples=tuple(whole.examples[row] for row in rows))


def read_split(name: str, path: Path, reading: Reading, task: Task, max_rows: int | None = None) -> Split:
    """All rows of one file as examples.

    Raises:
        DataError: an empty file, or bad rows, of which up to ten are named with field, found and remedy.
    """
    examples: list[Example] = []
    problems: list[str] = []
    for number, row in read_rows(path):
        if max_rows is not None and len(examples) + len(problems) >= max_rows:
            break
        try:
            item, target = _item(row, reading, task), _target(row, reading.label_field, task)
            examples.append(Example(item, target, number))
        except BadFieldError as bad:
            problems.append(f"row {number}, field {bad.field!r}: found {bad.found}; {bad.remedy}")
            if len(problems) >= _MAX_TOLD:
                break
    if problems:
        raise DataError(f"{path.name}: " + " | ".join(problems))
    if not examples:
        raise DataError(f"{path.name}: no rows; remove the file or fill it")
    return Split(name, path.name, tuple(examples))


def _item(row: Row, reading: Reading, task: Task) -> Item:
    item = reading.item(row)
    if isinstance(item, ChoiceItem) and len(item.choices) != len(task.class_names):
        remedy = f"every row of a task has {len(task.class_names)}"
        raise BadFieldError("choices", f"{len(item.choices)} choices", remedy)
    return item


def _target(row: Row, field: str, task: Task) -> Target:
    value = present(row, field, "--label-field")
    if value is None:
        raise BadFieldError(field, "null", "every row needs a label: fill it in or remove the row")
    try:
        return task.parse(value)
    except TargetError as error:
        raise BadFieldError(field, error.found, error.remedy) from None


def _file_splits(
    config: TrainConfig, files: Mapping[str, Path], reading: Reading, task: Task
) -> tuple[Task, Split, Split, list[str]]:
    """The files as they are; a drawn validation split where there is no file for it."""
    train = read_split("train", files["train"], reading, task, config.max_train_rows)
    task = task.fitted(train.targets)
    if "validation" in files:
        rows = config.max_validation_rows
        return task, train, read_split("validation", files["validation"], reading, task, rows), []
    train, validation = _drawn(train, task, config)
    note = (
        f"no validation file: {len(validation)} of {len(train) + len(validation)} rows of {train.source} "
        f"are held out, by label, with seed {config.seed}"
    )
    return task.fitted(train.targets), train, validation, [note]


def _found_names(card: Card, paths: Iterable[Path]) -> tuple[str, ...]:
    values = (row.get(card.label_field) for path in paths for _, row in read_rows(path))
    return card.task.names_in(values, card.label_field)


def _build(
    card: Card, names: tuple[str, ...], config: TrainConfig, official: str | None, formatter: Formatter | None
) -> tuple[Task, list[str]]:
    if len(names) < card.task.least_names:
        found = f"found {len(names)} label(s): {', '.join(names) or 'none'}"
        raise DataError(f"field {card.label_field!r}: {found}; a classification needs at least two classes")
    _check_names(names)
    metric, notes = _metric(card, names, config, official)
    task = card.task.build(names, metric, config.metric or card.metric)
    return (task if formatter is None else as_text(task, formatter)), notes


def as_text(task: Task, formatter: Formatter) -> Task:
    """The text-to-text form of a task.

    Raises:
        DataError: a format whose answers are any text for data with labels, or the other way round.
    """
    official = FORMATS.get(formatter.name)
    if official is not None and official.free_text != task.writes:
        found, remedy = "label strings", "give --format fields, or another format"
        if official.free_text:
            found, remedy = "any text", "give --kind free_text (and --label-field)"
        raise DataError(f"format {formatter.name}: its answers are {found}, the data has others; {remedy}")
    return task.as_text(formatter)


def _metric(
    card: Card, names: tuple[str, ...], config: TrainConfig, official: str | None
) -> tuple[Metric, list[str]]:
    """As asked for; else a recipe's mean of the task's metrics; else what the card names first."""
    known = card.task.measures
    if config.metric is not None:
        return demand_metric(config.metric, known, names), []
    if config.recipe is not None:
        its = "+".join(m for m in (FORMATS[official].metrics if official else ()) if m in known.values)
        return demand_metric(its, known, names) if its else all_metrics(card.metric, known, names), []
    metric, problem = read_metric(card.metric, known, names)
    return metric, [problem] if problem else []


def _check_names(names: Sequence[str]) -> None:
    """What the adapter file would refuse after training is refused before it."""
    bad = [name for name in names if not 1 <= len(name) <= _MAX_LABEL_CHARACTERS or _CONTROL.search(name)]
    if bad:
        raise DataError(
            f"label {bad[0][:60]!r}: a label name has 1 to {_MAX_LABEL_CHARACTERS} characters, "
            "without control characters; shorten or correct it"
        )
    if len(names) > _MAX_LABELS:
        raise DataError(f"{len(names)} different labels; at most {_MAX_LABELS}: is the label field right?")


def _drawn(train: Split, task: Task, config: TrainConfig) -> tuple[Split, Split]:
    kept, held = draw_validation(
        [example.text for example in train.examples],
        [_indices(task, target) for target in train.targets],
        fraction=config.validation_fraction,
        seed=config.seed,
    )
    held = held[: config.max_validation_rows]
    rows = train.examples
    return (
        replace(train, examples=tuple(rows[i] for i in kept)),
        Split("validation", train.source, tuple(rows[i] for i in held)),
    )


def _indices(task: Task, target: Target) -> tuple[int, ...]:
    """What a row shares out: its class or classes, else the bin of its number."""
    stratum = task.stratum(target)
    return tuple(map(int, stratum)) if isinstance(stratum, tuple) else (int(str(stratum)),)


def _paper_note(rule: str, config: TrainConfig) -> str:
    how = {
        "halve": "validation is one half of the validation file, test the other",
        "thousand": "validation is 1,000 train rows, test the validation file",
        "files": "train and validation are the files",
    }[rule]
    rows = "" if config.max_train_rows is None else f"; train is {config.max_train_rows} permuted rows"
    return f"split as in the Compacter paper (seed 42): {how}{rows}"


def _check_learnable(task: Task, train: Split, validation: Split) -> None:
    if len(set(train.targets)) < 2:
        raise DataError(
            f"{train.source}: all {len(train)} train rows have the label {task.told(train.targets[0])!r}; "
            "add rows with others, or shuffle the file when only its first rows are used"
        )
    if not validation.examples:
        raise DataError(f"{validation.source}: no validation rows; add rows or raise validation_fraction")


def _name_notes(card: Card, names: tuple[str, ...]) -> list[str]:
    if card.label_names is not None or not card.task.least_names:
        return []
    if all(name.isdigit() for name in names):
        return [
            "labels are numbers without names; answers will say '0', '1', ... (give label_names to name them)"
        ]
    return [f"no label_names given: {len(names)} names were taken from the rows"]


def _label_notes(task: Task, train: Split, validation: Split) -> list[str]:
    if not task.class_names:
        return []
    learnt, tested = label_counts(train.targets), label_counts(validation.targets)
    missing = [index for index in range(len(task.class_names)) if not learnt[index]]
    if not missing:
        return []
    shown, told = (
        ", ".join(task.class_names[index] for index in indices[:5])
        for indices in (missing, [index for index in missing if tested[index]])
    )
    more, extra = "..." if len(missing) > 5 else "", f" ({told} occur in validation)" if told else ""
    return [f"no train row has the label {shown}{more}{extra}"]


def _text_notes(train: Split, validation: Split) -> list[str]:
    notes = []
    if len(validation) < _FEW_ROWS:
        notes.append(f"only {len(validation)} validation rows: one row is {100 / len(validation):.1f} points")
    known = set(train.texts)
    shared = sum(text in known for text in validation.texts)
    if shared:
        notes.append(
            f"{shared} of {len(validation)} validation texts are also in train: their score is flattering"
        )
    empty = sum(not "".join(parts_of(text)).strip() for text in train.texts)
    if empty:
        notes.append(f"{empty} train rows have an empty text")
    return notes
