"""From files to checked examples: labels read, splits drawn, odd things said, everything digested.

Knows nothing of tokens or models. One bad row stops the run, and up to ten of them are told at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.data.card import Card, Flags, named, read_card
from training.data.notes import notes_of
from training.data.page import Page, page_of
from training.data.reading import Reading, formatter_of, reading_of
from training.errors import DataError
from training.formats import FORMATS, Formatter, official_name
from training.metrics.scores import Metric, all_metrics, demand_metric, read_metric
from training.rows.canonical import TargetError, canonical, occurrences
from training.rows.doubts import shorten_list
from training.rows.examples import Example, Split, Target, digest_of, label_counts
from training.rows.files import find_splits, unused_files
from training.rows.items import BadFieldError, ChoiceItem, check_characters
from training.rows.labels import MAX_LABELS, Labels
from training.rows.split import draw_validation, paper_file, paper_rows, rule_for, sample_rows, why_nothing
from training.rows.tables import Table, read_table
from training.settings.config import TrainConfig
from training.tasks import Task

if TYPE_CHECKING:
    from modeling import Backbone

_MAX_TOLD = 10
_MAX_LABEL_CHARACTERS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HIDDEN = "-1"  # what the hub has for the labels of a test set that nobody may see


@dataclass(frozen=True)
class TaskData:
    """What a run learns from: the task with its labels, both splits, and what a person should know.

    `official` is the GLUE or SuperGLUE task that the data set is, `split_rule` the paper's rule that was
    used; each None where there is none. `drawn`: the validation rows are train rows that were held out.
    """

    task: Task
    card: Card
    reading: Reading
    train: Split
    validation: Split
    digest: str
    page: Page
    official: str | None = None
    split_rule: str | None = None
    drawn: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the data."""
        return self.page.notes

    def on(self, backbone: "Backbone") -> "TaskData":
        """With what only the backbone's tokenizer can tell. Raises ConfigError."""
        task = self.task.sized(backbone, (self.train, self.validation))
        train, validation = (task.aligned(backbone, split) for split in (self.train, self.validation))
        return replace(self, task=task, train=train, validation=validation)


@dataclass(frozen=True)
class Source:
    """The tables of a data set by split, those without labels left out, and how their rows are read."""

    tables: Mapping[str, Table]
    reading: Reading
    labels: Labels

    def split(self, name: str, task: Task, table: str | None = None) -> Split:
        """All rows of one split's table as examples. Raises DataError as `examples_of`."""
        return examples_of(name, self.tables[table or name], self.reading, task, self.labels)


def load_data(config: TrainConfig) -> TaskData:
    """Read, check and split the data of a run.

    Raises:
        DataError: unreadable files, bad rows (file, row, field, found, remedy), one-class data, too few rows.
        ConfigError: a metric that this kind of task has not, or a format that does not fit the rows.
    """
    data = Path(config.data)
    tables = read_tables(data)
    if "train" not in tables:
        shown = ", ".join(table.source for table in tables.values())
        raise DataError(f"{data}: no train file; found {shown}")
    card = read_card(data, tables, Flags.of(config))
    tables, unlabelled = labelled(tables, card)
    official = official_name(card.name, card.row_fields)
    reading = reading_of(card, formatter_of(card, config))
    found = occurrences(tables.values(), card.label_field)
    labels, told = card.read_labels(found)
    task, metric_notes = _build(card, labels.names, config, official, reading.formatter)
    source = Source(tables, reading, labels)
    if len(labels.names) < card.task.least_names:
        source.split("train", task)  # what is wrong with single rows is told first
        found_names = f"found {len(labels.names)} label(s): {', '.join(labels.names) or 'none'}"
        raise DataError(
            f"{tables['train'].source}, field {card.label_field!r}: {found_names}; a classification needs at "
            "least two classes"
        )
    rule = _rule_of(official, tables["train"]) if config.split_rule == "paper" else None
    if rule is None:
        task, train, validation, drawn = _splits(config, source, task)
    else:
        task, train, validation, drawn = _paper_splits(config, source, task, rule)
    if task.writes:  # free text has an example for each answer
        learnt = (replace(row, target=one) for row in train.examples for one in task.learnt(row.target))
        train = replace(train, examples=tuple(learnt))
    _check_learnable(task, train, validation)
    notes = [*dict.fromkeys(note for table in tables.values() for note in table.notes), *unlabelled]
    notes += [*card.notes, *told, *metric_notes, *drawn]
    notes += notes_of(task, card, labels, tables, (train, validation))
    digest = digest_of([card.kind, card.text_fields, task.labels], (train, validation))
    page = page_of(card, reading, task, tables, (train, validation), notes)
    held_out = rule is None and "validation" not in tables
    return TaskData(task, card, reading, train, validation, digest, page, official, rule, held_out)


def read_tables(data: Path) -> dict[str, Table]:
    """The tables of a folder or file, by split. Raises DataError; a file without rows is refused."""
    found = find_splits(data)
    tables = {split: read_table(files) for split, files in found.items()}
    unused = unused_files(data, found)
    if unused:
        note = f"not read, as of no split: {shorten_list(unused)}"
        tables = {split: replace(table, notes=(*table.notes, note)) for split, table in tables.items()}
    for table in tables.values():
        if not table.num_rows:
            told = f" ({'; '.join(table.notes)})" if table.notes else ""
            raise DataError(f"{table.source}: no rows{told}; remove the file or fill it")
    return tables


def labelled(tables: Mapping[str, Table], card: Card) -> tuple[dict[str, Table], list[str]]:
    """The tables with their labels in one column; other splits than train may have none, which is told."""
    kept: dict[str, Table] = {}
    notes = []
    for split, bare in tables.items():
        if not card.label_fields:  # every row is as good as one with this label
            kept[split] = replace(bare, columns={**bare.columns, card.label_field: [1] * bare.num_rows})
            continue
        table = bare
        if all(field in bare.columns for field in card.label_fields):
            table, told = named(bare.joined(card.label_fields, card.label_field), card, tables.get("train"))
            notes += told
            if split == "train" or not _is_hidden(table, card.label_field, kept.get("train")):
                kept[split] = table
                continue
        if split in ("train", "validation"):
            shown = ", ".join(sorted(table.columns))
            raise DataError(
                f"{table.source}: no labels in {card.label_field!r} among {shown}; add them, or drop the file"
            )
        notes.append(f"{table.source} has no labels: the {split} rows are left out")
    kept, told = card.task.prepared(kept, card.text_fields, card.label_field, card.place_names)
    return kept, [*notes, *told]


def _is_hidden(table: Table, field: str, train: Table | None) -> bool:
    """Whether all labels are blank, or all are the mark of hidden ones, which no train row has."""
    found, known = (_texts(table, field), set() if train is None else _texts(train, field))
    return not found or (found == {_HIDDEN} and _HIDDEN not in known)


def _texts(table: Table, field: str) -> set[str]:
    texts = set()
    for value in table.distinct(field).values:
        try:
            texts.add(canonical(value))
        except TargetError:
            texts.add(repr(value))  # a list, or what is refused with its row
    return texts - {""}


def _rule_of(official: str | None, train: Table) -> str:
    """The paper's rule for an official task; for other data by the number of train rows."""
    return rule_for(train.num_rows) if official is None else FORMATS[official].split_rule


def paper_split(split: str, rule: str, source: Source, task: Task, max_rows: int | None) -> Split:
    """A split as the paper's `rule` makes it. Raises DataError as `examples_of`, or without its file."""
    file = paper_file(split, rule)
    if file not in source.tables:
        raise DataError(
            f"the paper's rule ({rule}) takes the {split} rows out of a {file} file; there are only "
            f"{', '.join(source.tables)}: add it, or leave --split-rule out"
        )
    whole = source.split(split, task, file)
    return whole.of(paper_rows(split, rule, len(whole), max_rows))


def examples_of(name: str, table: Table, reading: Reading, task: Task, labels: Labels) -> Split:
    """All rows of a table as examples.

    Raises:
        DataError: bad rows, of which up to ten are named with field, found and remedy.
    """
    examples: list[Example] = []
    problems: list[str] = []
    targets, again = _targets(table, reading.label_field, task, labels), _header_again(table, reading)
    for place, row in enumerate(reading.rows(table)):
        try:
            item, target = reading.item(row), targets[place]
            check_characters(item, reading.read_fields)
            if isinstance(item, ChoiceItem) and len(item.choices) != len(task.class_names):
                remedy = f"every row of a task has {len(task.class_names)}"
                raise BadFieldError("choices", f"{len(item.choices)} choices", remedy)
            if isinstance(target, TargetError):
                raise BadFieldError(reading.label_field, target.found, target.remedy)
            if place in again:
                raise BadFieldError(reading.label_field, "the header again", "remove the row")
            examples.append(Example(item, target, table.row_number(place)))
        except BadFieldError as bad:
            found = f"{table.where(place)}, field {bad.field!r}: found {bad.found}; {bad.remedy}"
            problems.append(found)
            if len(problems) >= _MAX_TOLD:
                break
    if problems:
        raise DataError(" | ".join(problems), problems if len(problems) > 1 else ())
    return Split(name, table.source, tuple(examples))


def _header_again(table: Table, reading: Reading) -> set[int]:
    """Rows that hold the names of their fields, as files have them that were put together."""
    label, texts = table.distinct(reading.label_field), reading.read_fields
    if reading.label_field not in label.values:
        return set()
    code = label.values.index(reading.label_field)
    rows = (label.codes == code).nonzero()[0].tolist()
    few = table.take(rows)
    return {row for row, *cells in zip(rows, *map(few.values, texts), strict=True) if tuple(cells) == texts}


def _targets(table: Table, field: str, task: Task, labels: Labels) -> list[Target | TargetError]:
    """The target of each row; each different value is parsed once."""
    distinct = table.distinct(field)
    parsed: list[Target | TargetError] = []
    for value in distinct.values:
        try:
            parsed.append(task.parse(value, labels))
        except TargetError as error:
            parsed.append(error)
    try:
        parsed.append(task.parse(None, labels))
    except TargetError:
        parsed.append(TargetError("null", "every row needs a label: fill it in or remove the row"))
    return [parsed[code] for code in distinct.codes.tolist()]  # no value has the code -1: the last


def _splits(config: TrainConfig, source: Source, task: Task) -> tuple[Task, Split, Split, list[str]]:
    """The files as they are; a drawn validation split where there is no file for it."""
    whole = source.split("train", task)
    task = task.fitted(whole.targets)
    if "validation" in source.tables:
        train, validation, notes = whole, source.split("validation", task), []
    else:
        train, validation = _drawn(whole, task, config)
        notes = [
            f"no validation file: {len(validation)} of {len(whole)} rows of {whole.source} are held out, "
            f"by label and by a hash of the text, with seed {config.seed}"
        ]
    train, of_train = sampled(train, task, config.max_train_rows, config.seed)
    validation, of_validation = sampled(validation, task, config.max_validation_rows, config.seed)
    return task.fitted(train.targets), train, validation, [*notes, *of_train, *of_validation]


def sampled(split: Split, task: Task, num_rows: int | None, seed: int) -> tuple[Split, list[str]]:
    """At most `num_rows` rows that keep the labels' shares, and what is told of it."""
    if num_rows is None or num_rows >= len(split):
        return split, []
    strata = task.strata(split.targets, num_rows / len(split))
    few = split.of(sample_rows(split.texts, strata, num_rows, seed))
    note = f"{len(few)} of {len(split)} {split.name} rows are used, drawn by label with seed {seed}"
    classes = [len(label_counts(targets)) for targets in (few.targets, split.targets) if task.class_names]
    lost = (
        f"; {classes[1] - classes[0]} labels have no row left" if classes and classes[0] < classes[1] else ""
    )
    return few, [note + lost]


def _paper_splits(
    config: TrainConfig, source: Source, task: Task, rule: str
) -> tuple[Task, Split, Split, list[str]]:
    train = paper_split("train", rule, source, task, config.max_train_rows)
    task = task.fitted(train.targets)
    validation = paper_split("validation", rule, source, task, config.max_validation_rows)
    return task, train, validation, [_paper_note(rule, config)]


def _build(
    card: Card, names: tuple[str, ...], config: TrainConfig, official: str | None, formatter: Formatter | None
) -> tuple[Task, list[str]]:
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
    known = card.task.measured_by(names)
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
            "without control characters or half emojis; shorten or correct it"
        )
    if len(names) > MAX_LABELS:
        raise DataError(f"{len(names)} label names; at most {MAX_LABELS}")


def _drawn(train: Split, task: Task, config: TrainConfig) -> tuple[Split, Split]:
    fraction, seed = config.validation_fraction, config.seed
    strata = task.strata(train.targets, fraction)
    kept, held = draw_validation(train.texts, strata, fraction=fraction, seed=seed)
    if not held:
        raise DataError(f"{train.source}: {why_nothing(strata, task.class_names, train.texts)}")
    return train.of(kept), replace(train.of(held), name="validation")


def _paper_note(rule: str, config: TrainConfig) -> str:
    how = {
        "halve": "validation is one half of the validation file, test the other",
        "thousand": "validation is 1,000 train rows, test the validation file",
        "files": "train and validation are the files",
    }[rule]
    rows = "" if config.max_train_rows is None else f"; train is {config.max_train_rows} permuted rows"
    return f"split as in the Compacter paper (seed 42): {how}{rows}"


def _check_learnable(task: Task, train: Split, validation: Split) -> None:
    if len(set(train.targets)) < 2 and not task.learns_one:
        raise DataError(
            f"{train.source}: all {len(train)} train rows have the label {task.told(train.targets[0])!r}; "
            "add rows with others"
        )
    if not validation.examples:
        raise DataError(f"{validation.source}: no validation rows; add rows, or a validation file")
