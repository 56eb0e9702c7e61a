"""From files to checked examples: labels parsed, splits drawn, odd things said, everything digested.

Knows nothing of tokens or models. One bad row stops the run, and up to ten of them are told at once.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.card import Card, Flags, find_splits, read_card
from training.config import TrainConfig
from training.errors import DataError
from training.metrics import demand_metric, read_metric
from training.readers import Row, read_rows
from training.split import draw_validation
from training.tasks import Target, TargetError, Task, build_task

TextItem = str | tuple[str, str]
_MAX_TOLD = 10
_FEW_ROWS = 30
_MAX_LABELS, _MAX_LABEL_CHARACTERS = 10_000, 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Example:
    """One row: its text or pair, its parsed label, and its row number in the file."""

    text: TextItem
    target: Target
    row: int


@dataclass(frozen=True)
class Split:
    """Checked rows of one file, or drawn from one."""

    name: str
    source: str
    examples: tuple[Example, ...]

    @property
    def texts(self) -> list[TextItem]:
        """The inputs, in order."""
        return [example.text for example in self.examples]

    @property
    def targets(self) -> list[Target]:
        """The labels, in order."""
        return [example.target for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)


@dataclass(frozen=True)
class TaskData:
    """What a run learns from: the task with its labels, both splits, and what a person should know."""

    task: Task
    fields: tuple[str, ...]
    train: Split
    validation: Split
    digest: str
    notes: tuple[str, ...]


def load_data(config: TrainConfig) -> TaskData:
    """Read, check and split the data of a run.

    Raises:
        DataError: unreadable files, bad rows (file, row, field, found, remedy), one-class data, too few rows.
        ConfigError: a metric that this kind of task has not.
    """
    data = Path(config.data)
    card = read_card(data, Flags.of(config))
    files = find_splits(data)
    if "train" not in files:
        raise DataError(f"{data}: no train file; found {', '.join(path.name for path in files.values())}")
    names = card.label_names or _found_names(card, [files[s] for s in ("train", "validation") if s in files])
    task, metric_note = _build(card, names, config.metric)
    train = read_split(
        "train", files["train"], card.text_fields, card.label_field, task, config.max_train_rows
    )
    task = task.fitted(train.targets)
    notes = [*card.notes, *metric_note, *_name_notes(card, names)]
    if "validation" in files:
        path = files["validation"]
        rows = config.max_validation_rows
        validation = read_split("validation", path, card.text_fields, card.label_field, task, rows)
    else:
        train, validation = _drawn(train, task, config)
        task = task.fitted(train.targets)
        notes.append(_drawn_note(train, validation, config))
    _check_learnable(task, train, validation)
    notes += [*_label_notes(task, train, validation), *_text_notes(train, validation)]
    digest = _digest(card, task, (train, validation))
    return TaskData(task, card.text_fields, train, validation, digest, tuple(notes))


def read_split(
    name: str, path: Path, fields: Sequence[str], label_field: str, task: Task, max_rows: int | None = None
) -> Split:
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
            examples.append(Example(_text(row, fields), _target(row, label_field, task), number))
        except _BadFieldError as bad:
            problems.append(f"row {number}, field {bad.field!r}: found {bad.found}; {bad.remedy}")
            if len(problems) >= _MAX_TOLD:
                break
    if problems:
        raise DataError(f"{path.name}: " + " | ".join(problems))
    if not examples:
        raise DataError(f"{path.name}: no rows; remove the file or fill it")
    return Split(name, path.name, tuple(examples))


class _BadFieldError(Exception):
    def __init__(self, field: str, found: str, remedy: str) -> None:
        super().__init__(field)
        self.field, self.found, self.remedy = field, found, remedy


def _text(row: Row, fields: Sequence[str]) -> TextItem:
    texts = [_one_text(row, field) for field in fields]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _one_text(row: Row, field: str) -> str:
    value = _present(row, field, "--text-fields")
    if not isinstance(value, str):
        raise _BadFieldError(
            field, f"{value!r} ({type(value).__name__})"[:120], "a text is a string: quote or fill it"
        )
    return value


def _target(row: Row, field: str, task: Task) -> Target:
    value = _present(row, field, "--label-field")
    if value is None:
        raise _BadFieldError(field, "null", "every row needs a label: fill it in or remove the row")
    try:
        return task.parse(value)
    except TargetError as error:
        raise _BadFieldError(field, error.found, error.remedy) from None


def _present(row: Row, field: str, flag: str) -> Any:
    if field not in row:
        raise _BadFieldError(
            field, f"only {', '.join(sorted(map(str, row))) or 'no fields'}", f"add it, or set {flag}"
        )
    return row[field]


def _found_names(card: Card, paths: Iterable[Path]) -> tuple[str, ...]:
    """Label names as they occur in the files, sorted; numbers by value. A regression has one, its field."""
    if card.kind == "regression":
        return (card.label_field,)
    found: set[str] = set()
    for path in paths:
        for _, row in read_rows(path):
            value = row.get(card.label_field)
            parts = value if isinstance(value, list) else _cell_parts(value, card.kind)
            found |= {str(part).strip() for part in parts if part is not None and str(part).strip()}
    if all(name.isascii() and name.isdigit() for name in found):
        return tuple(str(number) for number in range(max(map(int, found), default=-1) + 1))
    return tuple(sorted(found))


def _cell_parts(value: Any, kind: str) -> list[Any]:
    if kind == "multi_label" and isinstance(value, str):
        return value.split("|")
    return [value]


def _build(card: Card, names: tuple[str, ...], wanted: str | None) -> tuple[Task, list[str]]:
    kind = card.head_kind
    if kind != "regression" and len(names) < (1 if kind == "multi_label" else 2):
        found = f"found {len(names)} label(s): {', '.join(names) or 'none'}"
        raise DataError(f"field {card.label_field!r}: {found}; a classification needs at least two classes")
    if kind == "regression":
        names = names[:1] or (card.label_field,)
    _check_names(names)
    if wanted is not None:
        return build_task(kind, names, demand_metric(wanted, kind, names), wanted), []
    metric, problem = read_metric(card.metric, kind, names)
    return build_task(kind, names, metric, card.metric), [problem] if problem else []


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
        [task.stratum(target) for target in train.targets],
        fraction=config.validation_fraction,
        seed=config.seed,
    )
    held = held[: config.max_validation_rows]
    rows = train.examples
    return (
        replace(train, examples=tuple(rows[i] for i in kept)),
        Split("validation", train.source, tuple(rows[i] for i in held)),
    )


def _drawn_note(train: Split, validation: Split, config: TrainConfig) -> str:
    return (
        f"no validation file: {len(validation)} of {len(train) + len(validation)} rows of {train.source} "
        f"are held out, by label, with seed {config.seed}"
    )


def _check_learnable(task: Task, train: Split, validation: Split) -> None:
    distinct = set(train.targets)
    if len(distinct) < 2:
        shown = task.labels[train.targets[0]] if isinstance(train.targets[0], int) else train.targets[0]
        raise DataError(
            f"{train.source}: all {len(train)} train rows have the label {shown!r}; "
            "add rows with others, or shuffle the file when only its first rows are used"
        )
    if not len(validation):
        raise DataError(f"{validation.source}: no validation rows; add rows or raise validation_fraction")


def _name_notes(card: Card, names: tuple[str, ...]) -> list[str]:
    if card.label_names is not None or card.kind == "regression":
        return []
    if all(name.isdigit() for name in names):
        return [
            "labels are numbers without names; answers will say '0', '1', ... (give label_names to name them)"
        ]
    return [f"no label_names given: {len(names)} names were taken from the rows"]


def _label_notes(task: Task, train: Split, validation: Split) -> list[str]:
    if task.kind == "regression":
        return []
    counts = [_label_counts(split) for split in (train, validation)]
    notes = []
    missing = [label for index, label in enumerate(task.labels) if not counts[0][index]]
    if missing:
        tested = [label for label in missing if counts[1][task.labels.index(label)]]
        extra = f" ({', '.join(tested[:5])} occur in validation)" if tested else ""
        notes.append(
            f"no train row has the label {', '.join(missing[:5])}{'...' if len(missing) > 5 else ''}{extra}"
        )
    return notes


def _label_counts(split: Split) -> Counter[int]:
    counts: Counter[int] = Counter()
    for target in split.targets:
        counts.update(target if isinstance(target, tuple) else [int(target)])
    return counts


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
    empty = sum(not "".join(text).strip() for text in train.texts)
    if empty:
        notes.append(f"{empty} train rows have an empty text")
    return notes


def _digest(card: Card, task: Task, splits: Iterable[Split]) -> str:
    """One digest of everything that decides what is learnt: fields, labels, rows and their order."""
    total = hashlib.sha256()
    head = [card.kind, card.text_fields, task.labels]
    total.update(json.dumps(head, ensure_ascii=False).encode())
    for split in splits:
        total.update(f"\n{split.name} {len(split)}".encode())
        for example in split.examples:
            total.update(b"\n")
            total.update(
                json.dumps([example.text, example.target], ensure_ascii=False).encode(
                    "utf-8", "surrogatepass"
                )
            )
    return f"sha256:{total.hexdigest()}"
