"""What the data is: `dataset.json` beside it, overridden by flags, completed by looking at the first rows.

Knows names and kinds; reads no labels (that is `load.py`) and trains nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from training.errors import ConfigError, DataError
from training.formats import FORMATS as OFFICIAL
from training.formats import official_name
from training.rows.readers import FORMATS, Row, format_of, read_rows
from training.settings.checks import HEAD, TEXT_TO_TEXT
from training.settings.config import TrainConfig
from training.tasks import TASKS, Task

CARD_NAME = "dataset.json"
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_SINGLE_FIELDS = ("text", "sentence")
_PAIR_FIELDS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "passage"),
    ("question", "sentence"),
)
_LABEL_FIELDS = ("label", "labels")
_ANSWER_FIELDS = ("answers", "answer", "target")
_STORED_LISTS = ("text_fields", "label_names", "choice_fields")
_STORED_TEXTS = ("kind", "metric", "label_field", "name")
_CHOICE_LIST = "choices"
_SAMPLE_ROWS = 200
_FREE_TEXT = "free_text"


@dataclass(frozen=True)
class Card:
    """How to read the rows. `label_names` None means: take the names found in the rows.

    `choice_fields` belong to a multiple choice answered by a head; `name` is the data set's own, `row_fields`
    are all fields of its first row.
    """

    kind: str
    text_fields: tuple[str, ...]
    label_field: str
    label_names: tuple[str, ...] | None
    metric: str | None
    notes: tuple[str, ...] = ()
    name: str | None = None
    choice_fields: tuple[str, ...] = ()
    form: str = HEAD
    row_fields: frozenset[str] = frozenset()

    @property
    def task(self) -> type[Task]:
        """What a label in the rows is, whatever answers."""
        own = TASKS[self.kind]
        return (own.in_text() or own) if self.form == TEXT_TO_TEXT else own


@dataclass(frozen=True)
class Flags:
    """What the user said about the data; None = the card or the rows decide."""

    kind: str | None = None
    text_fields: tuple[str, ...] | None = None
    label_field: str | None = None
    label_names: tuple[str, ...] | None = None
    metric: str | None = None
    choice_fields: tuple[str, ...] | None = None
    form: str = HEAD
    label_field_before: str | None = None  # what it was in training: where neither card nor user says

    @classmethod
    def of(cls, config: TrainConfig) -> "Flags":
        fields, choices = config.text_fields, config.choice_fields
        label, names = config.label_field, config.label_names
        return cls(config.kind, fields, label, names, config.metric, choices, config.form)


def find_splits(data: Path) -> dict[str, Path]:
    """The file of each split in a folder; a single file is the train split.

    Raises:
        DataError: nothing there, or two files for one split.
    """
    if data.is_file():
        return {"train": data}
    if not data.is_dir():
        raise DataError(f"{data}: no such file or folder")
    found: dict[str, Path] = {}
    for path in sorted(data.iterdir()):
        split = _split_of(path)
        if split is None:
            continue
        if split in found:
            both = f"both {found[split].name} and {path.name}"
            raise DataError(f"{data}: {both} are the {split} split; remove one")
        found[split] = path
    if not found:
        names = ", ".join(sorted(p.name for p in data.iterdir())[:10]) or "nothing"
        expected = f"expected train with one of {', '.join(FORMATS)}"
        raise DataError(f"{data}: no data file; found {names}; {expected}")
    return found


def stored_kind(data: Path) -> str | None:
    """The kind that `dataset.json` beside the data says, if there is one. Raises DataError as `read_card`."""
    kind = _read_stored(data if data.is_dir() else data.parent).get("kind")
    return None if kind is None else str(kind)


def read_card(data: Path, flags: Flags) -> Card:
    """`dataset.json` and flags, with gaps filled from the first rows.

    Raises:
        DataError: the card is not usable, or a gap cannot be filled; the message says with which flag to fill
            it.
    """
    said = _read_stored(data if data.is_dir() else data.parent)
    said |= {name: value for name, value in vars(flags).items() if value}
    files = find_splits(data)
    sample_path = files.get("train") or next(iter(files.values()))
    sample = _sample(sample_path)
    kind = said.get("kind") or _official_kind(said.get("name"), sample, flags.form)
    before = flags.label_field_before if flags.label_field_before in sample[0] else None
    card = Card(
        kind=kind,
        label_field=said.get("label_field") or before or _guess_label_field(sample, sample_path, kind),
        text_fields=tuple(said.get("text_fields") or _guess_text_fields(sample, sample_path)),
        label_names=tuple(said.get("label_names") or ()) or None,
        metric=said.get("metric"),
        name=said.get("name"),
        choice_fields=tuple(said.get("choice_fields") or ()),
        form=flags.form,
        row_fields=frozenset(sample[0]),
    )
    if not card.kind:
        card = _with_guessed_kind(card, sample)
    _check_kind(card, flags, sample_path)
    if card.task.lists_choices:
        card = _with_choices(card, sample, sample_path)
    _check(card, flags, sample_path)
    return card


def _with_choices(card: Card, sample: Sequence[Row], path: Path) -> Card:
    """The fields of the choices: as given, those named as labels are, or a list called `choices`."""
    fields = card.choice_fields or tuple(
        name for name in card.text_fields if name in (card.label_names or ())
    )
    if not fields and isinstance(sample[0].get(_CHOICE_LIST), list):
        fields = (_CHOICE_LIST,)
    if not fields:
        raise DataError(
            f"{path.name}: which of the fields {_names(sample)} are the choices? say so with --choice-fields"
        )
    names = card.label_names
    if names is None and len(fields) > 1:
        names = fields
    elif names is None and isinstance(sample[0].get(fields[0]), list):
        names = tuple(str(index) for index in range(len(sample[0][fields[0]])))
    texts = tuple(name for name in card.text_fields if name not in fields)
    return replace(card, text_fields=texts, choice_fields=fields, label_names=names)


def _split_of(path: Path) -> str | None:
    ending = format_of(path)
    if ending is None or not path.is_file():
        return None
    stem = path.name[: -len(ending)].lower()
    return next((split for split, names in SPLIT_NAMES.items() if stem in names), None)


def _read_stored(folder: Path) -> dict[str, Any]:
    path = folder / CARD_NAME
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON ({error}); correct or remove it") from None
    if not isinstance(stored, dict):
        raise DataError(f"{path}: found {type(stored).__name__}, expected an object")
    for key in (*_STORED_LISTS, *_STORED_TEXTS):
        value, expected = stored.get(key), "a list of names" if key in _STORED_LISTS else "text"
        words = value if key in _STORED_LISTS else [value]
        if value is not None and not (isinstance(words, list) and all(isinstance(w, str) for w in words)):
            raise DataError(f"{path}: {key} is {value!r}; expected {expected}")
    return stored


def _sample(path: Path) -> list[Row]:
    rows = [row for _, row in islice(read_rows(path), _SAMPLE_ROWS)]
    if not rows:
        raise DataError(f"{path.name}: no rows; a train file needs at least two")
    return rows


def _official_kind(name: str | None, sample: Sequence[Row], form: str) -> str:
    """Free text for an official task with such answers, else nothing yet."""
    official = official_name(name, frozenset(sample[0])) if form == TEXT_TO_TEXT else None
    return _FREE_TEXT if official is not None and OFFICIAL[official].free_text else ""


def _guess_label_field(sample: Sequence[Row], path: Path, kind: str) -> str:
    names = (*_LABEL_FIELDS, *_ANSWER_FIELDS) if kind == _FREE_TEXT else _LABEL_FIELDS
    found = [name for name in names if name in sample[0]]
    if len(found) != 1:
        shown = f"{', '.join(map(repr, names[:-1]))} and {names[-1]!r}"
        raise DataError(
            f"{path.name}: {'several' if found else 'none'} of the fields {shown} among {_names(sample)}; "
            "say which with --label-field"
        )
    return found[0]


def _guess_text_fields(sample: Sequence[Row], path: Path) -> tuple[str, ...]:
    for pair in _PAIR_FIELDS:
        if all(name in sample[0] for name in pair):
            return pair
    for name in _SINGLE_FIELDS:
        if name in sample[0]:
            return (name,)
    found = _names(sample)
    raise DataError(f"{path.name}: which of the fields {found} is the text? say so with --text-fields")


def _with_guessed_kind(card: Card, sample: Sequence[Row]) -> Card:
    values = [row.get(card.label_field) for row in sample]
    if card.choice_fields:
        kind = "multiple_choice"
    elif any(isinstance(value, list) for value in values):
        kind = "multi_label"
    elif any(_is_fraction(value) for value in values) and not card.label_names:
        kind = "regression"
    else:
        kind = "sentence_pair" if len(card.text_fields) == 2 else "single_sentence"
    note = f"no kind given: taken as {kind} from the first rows (set it with --kind or in {CARD_NAME})"
    return replace(card, kind=kind, notes=(*card.notes, note))


def _is_fraction(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and value is not None and not float(value).is_integer()
    except (TypeError, ValueError, OverflowError):
        return False


def _check_kind(card: Card, flags: Flags, path: Path) -> None:
    """Raises ConfigError for what the user said, DataError for what stands in the card."""
    if card.kind not in TASKS:
        known = f"kind is {card.kind!r}; allowed: {', '.join(TASKS)}"
        raise ConfigError(known) if flags.kind else DataError(f"{path.name}: {known}")
    if card.form == HEAD and card.task.writes:
        written = f"kind {card.kind} is written by a decoder"
        if flags.kind:
            raise ConfigError(f"{written}; give --form {TEXT_TO_TEXT} as well")
        raise DataError(f"{path.name}: {written}, no head answers it; give --form {TEXT_TO_TEXT}")
    if card.form == TEXT_TO_TEXT and TASKS[card.kind].in_text() is None:
        raise DataError(
            f"{path.name}: kind {card.kind} has no text-to-text form (a target is one label); train a head, "
            f"or, if its lists are right answers, give --kind {_FREE_TEXT}"
        )


def _check(card: Card, flags: Flags, path: Path) -> None:
    wanted = card.task.data_kinds[card.kind] if card.form == HEAD else ()
    fields = ", ".join(card.text_fields)
    if not fields or (wanted and len(card.text_fields) not in wanted):
        taken = " or ".join(map(str, wanted or ("at least 1",)))
        told = (
            f"{path.name}: kind {card.kind} takes {taken} text field(s), got "
            f"{len(card.text_fields)}: {fields}; choose with --text-fields, or give --form {TEXT_TO_TEXT}, "
            "which takes any number"
        )
        raise (ConfigError if flags.text_fields else DataError)(told)
    if card.label_names is not None and len(set(card.label_names)) != len(card.label_names):
        raise DataError(f"{path.name}: label_names has a name twice: {', '.join(card.label_names)}")


def _names(sample: Sequence[Row]) -> str:
    return ", ".join(sorted(map(str, sample[0]))) or "(none)"
