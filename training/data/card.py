"""What the data is: `dataset.json` beside it, overridden by flags, completed by looking at all rows.

Knows names, fields and kinds; makes no examples (that is `load.py`) and trains nothing.
"""

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.errors import ConfigError, DataError
from training.formats import FORMATS as OFFICIAL
from training.formats import official_name
from training.rows.canonical import Occurrence, canonical, occurrences
from training.rows.doubts import folded, shorten_list
from training.rows.json_file import each_key_once
from training.rows.labels import Labels, looks_like_numbers, one_hot
from training.rows.marked import SPAN_FIELDS, looks_marked
from training.rows.printed import listed
from training.rows.several import looks_like_several, one_hot_columns
from training.rows.tables import Table
from training.settings.checks import HEAD, TEXT_TO_TEXT
from training.settings.config import TrainConfig
from training.tasks import TASKS, Task

CARD_NAME = "dataset.json"
_PAIR_FIELDS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "passage"),
    ("question", "sentence"),
)
_LISTS = ("text_fields", "label_names", "choice_fields")
_TEXTS = ("kind", "metric", "label_field", "name")
_CHOICE_LIST = "choices"
_FREE_TEXT = "free_text"
_GUESSED = f"no kind given: taken as {{}} from the rows (set it with --kind or in {CARD_NAME})"
_ALIKE = 0.8  # of a key that may be a slip of the pen


@dataclass(frozen=True)
class Card:
    """How to read the rows. `label_names` None means: take the names found in the rows.

    Several `label_fields` are one-hot columns. `place_names` are what whole numbers in a list of tags stand
    for: those names, or of trained data the ones that it had. `choice_fields` belong to a multiple choice
    answered by a head; `name` is the data set's own, `row_fields` are all fields of the rows.
    """

    kind: str
    text_fields: tuple[str, ...]
    label_fields: tuple[str, ...]
    label_names: tuple[str, ...] | None
    metric: str | None
    notes: tuple[str, ...] = ()
    name: str | None = None
    choice_fields: tuple[str, ...] = ()
    form: str = HEAD
    row_fields: frozenset[str] = frozenset()
    names_given: bool = False
    place_names: tuple[str, ...] | None = None

    @property
    def task(self) -> type[Task]:
        """What a label in the rows is, whatever answers."""
        own = TASKS[self.kind]
        return (own.in_text() or own) if self.form == TEXT_TO_TEXT else own

    def to_config(self) -> dict[str, Any]:
        """What an adapter file keeps, so that other rows are read as these were."""
        fields = {name: list(getattr(self, name)) for name in ("text_fields", "choice_fields")}
        used = {name: value or None for name, value in fields.items()}
        return {
            **used,
            "kind": self.kind,
            "label_field": self.label_field,
            "label_names_given": self.names_given,
            **({"place_names": list(self.place_names)} if self.task.reads_words and self.place_names else {}),
        }

    def read_labels(self, found: Sequence[Occurrence]) -> tuple[Labels, list[str]]:
        """How the values `found` in the label field mean the data's own labels, and what is told of it."""
        if len(self.label_fields) > 1:
            return one_hot(len(self.label_fields), self.label_names)
        return self.task.read_labels(found, self.label_names, self.label_field)

    @property
    def label_field(self) -> str:
        """As messages and adapter files call it."""
        return ",".join(self.label_fields)


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
    place_names_before: tuple[str, ...] | None = None  # likewise

    @classmethod
    def of(cls, config: TrainConfig) -> "Flags":
        fields, choices = config.text_fields, config.choice_fields
        label, names = config.label_field, config.label_names
        return cls(config.kind, fields, label, names, config.metric, choices, config.form)


def stored_kind(data: Path) -> str | None:
    """The kind that `dataset.json` beside the data says, if there is one. Raises DataError as `read_card`."""
    kind = _read_stored(data if data.is_dir() else data.parent).get("kind")
    return None if kind is None else str(kind)


def read_card(data: Path, tables: Mapping[str, Table], flags: Flags) -> Card:
    """`dataset.json` and flags, with gaps filled from the rows of all splits.

    Raises:
        DataError: the card is not usable, or gaps cannot be filled; the message says with which flags to fill
            them, all at once.
    """
    stored = _read_stored(data if data.is_dir() else data.parent)
    said = {key: stored[key] for key in (*_LISTS, *_TEXTS) if key in stored}
    used = [key for key in said if not getattr(flags, key, None)]
    notes = [f"{CARD_NAME} beside the file gives {', '.join(used)}"] if used and data.is_file() else []
    said |= {name: value for name, value in vars(flags).items() if value}
    table = tables.get("train") or next(iter(tables.values()))
    kind = said.get("kind") or _official_kind(said.get("name"), table, flags.form)
    if not kind and flags.form == HEAD and looks_marked(table, said.get("label_field"), Task.usual_labels):
        kind = "token_labels"
        notes.append(_GUESSED.format(kind))
    labels = _label_fields(said, table, kind, flags.label_field_before)
    texts = tuple(said.get("text_fields") or _guess_text_fields(table, kind, labels))
    _demand_fields(table, labels, texts, kind)
    labels = _in_order_of(said.get("label_names") or (), labels, table.source)
    card = Card(
        kind=kind,
        text_fields=texts,
        label_fields=labels,
        label_names=tuple(map(str.strip, said.get("label_names") or _own_names(tables, labels))) or None,
        metric=said.get("metric"),
        notes=(*notes, *_unused_keys(stored)),
        name=said.get("name"),
        choice_fields=tuple(said.get("choice_fields") or ()),
        form=flags.form,
        row_fields=frozenset(table.columns),
    )
    places = card.label_names or flags.place_names_before
    card = replace(card, names_given=card.label_names is not None, place_names=places)
    if not card.kind:
        card = _with_guessed_kind(card, tables.values())
    _check_kind(card, flags, table.source)
    if card.task.lists_choices:
        card = _with_choices(card, table)
    _check(card, flags, table.source)
    return card


def _may_lack_labels(kind: str) -> bool:
    return TASKS.get(kind, Task).may_lack_labels


def _label_fields(said: Mapping[str, Any], table: Table, kind: str, before: str | None) -> tuple[str, ...]:
    """As given (commas part one-hot columns), as in training, by their usual name; nothing when unclear."""
    for given in (said.get("label_field"), before):
        if given and (given in table.columns or given is not before):
            parts = tuple(part.strip() for part in given.split(","))
            return parts if given not in table.columns and len(parts) > 1 else (given,)
        if given and all(part in table.columns for part in given.split(",")):
            return tuple(given.split(","))
    usual = TASKS.get(kind, Task).usual_labels
    found = [name for name in usual if name in table.columns]
    if len(found) == 1:
        return (found[0],)
    names = tuple(said.get("label_names") or ())
    if not found and names and all(name in table.columns for name in names):
        return names
    return () if found or _may_lack_labels(kind) else one_hot_columns(table)


def _guess_text_fields(table: Table, kind: str, labels: Sequence[str]) -> tuple[str, ...]:
    """A pair that is known, or the first usual name; tags label tokens, and spans are places in a text."""
    fields, usual = table.columns, TASKS.get(kind, Task).usual_texts
    pair = next((pair for pair in _PAIR_FIELDS if all(name in fields for name in pair)), None)
    if pair and not TASKS.get(kind, Task).reads_words:
        return pair
    ordered = (*Task.usual_texts, *usual) if set(labels) & set(SPAN_FIELDS) else usual
    return tuple(name for name in ordered if name in fields)[:1]


def _demand_fields(table: Table, labels: Sequence[str], texts: Sequence[str], kind: str) -> None:
    """Raises DataError for everything that has to be said with flags, and for fields that are not there."""
    problems, found = [], ", ".join(sorted(table.columns)) or "(none)"
    if not texts:
        problems.append(f"which of the fields {found} is the text? say so with --text-fields")
    usual = TASKS.get(kind, Task).usual_labels
    if not labels and not (_may_lack_labels(kind) and not set(usual) & set(table.columns)):
        shown = f"{', '.join(map(repr, usual[:-1]))} and {usual[-1]!r}"
        several = sum(name in table.columns for name in usual) > 1
        problems.append(
            f"{'several' if several else 'none'} of the fields {shown} among {found}; "
            "say which with --label-field"
        )
    if both := sorted(set(texts) & set(labels)):
        problems.append(
            f"{', '.join(map(repr, both))} cannot be text and label; choose another --label-field"
        )
    for flag, names in (("--text-fields", texts), ("--label-field", labels)):
        missing = [name for name in names if name not in table.columns]
        if missing:
            problems.append(
                f"no field {', '.join(map(repr, missing))} among {found}; name others with {flag}"
            )
    if problems:
        known = {*Task.usual_texts, *Task.usual_labels, *(name for pair in _PAIR_FIELDS for name in pair)}
        near = [repr(name) for name in table.columns if name not in known and name.strip().lower() in known]
        hint = f" (names are as they stand: {', '.join(near)})" if near else ""
        if not texts and not labels:
            hint += "; is row 1 the header? remove what is above it, or write one"
        raise DataError(f"{table.source}: {'; '.join(problems)}{hint}")


def _in_order_of(names: Sequence[str], labels: tuple[str, ...], source: str) -> tuple[str, ...]:
    """One-hot columns in the order of the names that are theirs. Raises DataError for some of them."""
    both = set(names) & set(labels)
    if len(labels) == 1 or not {folded(name) for name in names} & set(map(folded, labels)):
        return labels
    if both != set(names) or both != set(labels):
        raise DataError(
            f"{source}: the label columns are {', '.join(labels)} and the label names {', '.join(names)}; "
            "name the columns as they are, or each anew"
        )
    return tuple(names)


def _own_names(tables: Mapping[str, Table], labels: Sequence[str]) -> tuple[str, ...]:
    """Names in the files' own metadata, or of one-hot columns."""
    if len(labels) != 1:
        return tuple(labels)
    found = [table.class_names[labels[0]] for table in tables.values() if labels[0] in table.class_names]
    return tuple(dict.fromkeys(name for names in found for name in names))


def named(table: Table, card: Card, train: Table | None = None) -> tuple[Table, list[str]]:
    """With names in place of the whole numbers that a file's own metadata says are classes, which is told.

    A file without such metadata has that of `train`. Names that were given, and of which none stands in the
    metadata, stand for the same numbers instead. Raises DataError for metadata that has a name twice.
    """
    field, source = card.label_field, table
    if field not in table.class_names and train is not None:
        source = train
    names = source.class_names.get(field)
    if names is None or not set(map(canonical, names)) & set(map(canonical, card.label_names or ())):
        return table, []
    if len(set(map(canonical, names))) < len(names):
        raise DataError(
            f"{source.source}: its metadata has a name twice: {', '.join(names)}; give --label-names"
        )

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(part) for part in value]
        return names[value] if type(value) is int and 0 <= value < len(names) else value

    values = table.values(field)
    found = [name(value) for value in values]
    shown = shorten_list([f"{i} = {name}" for i, name in enumerate(names)])
    own = "its metadata" if source is table else f"the metadata of {source.source}"
    note = f"{table.source}: {own} names the labels: {shown}"
    return replace(table, columns={**table.columns, field: found}), [note] if found != values else []


def _with_choices(card: Card, table: Table) -> Card:
    """The fields of the choices: as given, those named as labels are, or a list called `choices`."""
    fields = card.choice_fields or tuple(
        name for name in card.text_fields if name in (card.label_names or ())
    )
    if not fields and _lists(table, _CHOICE_LIST):
        fields = (_CHOICE_LIST,)
    if not fields:
        shown = ", ".join(sorted(table.columns))
        raise DataError(
            f"{table.source}: which of the fields {shown} are the choices? say so with --choice-fields"
        )
    names = card.label_names
    if names is None and len(fields) > 1:
        names = fields
    elif names is None and (choices := _lists(table, fields[0])):
        names = tuple(str(index) for index in range(len(choices)))
    texts = tuple(name for name in card.text_fields if name not in fields)
    return replace(card, text_fields=texts, choice_fields=fields, label_names=names)


def _lists(table: Table, field: str) -> Sequence[Any]:
    """The list in the first row of a field, also a printed one; empty when there is none."""
    values = table.take(range(min(1, table.num_rows))).values(field) if field in table.columns else []
    return next(filter(None, map(listed, values)), ())


def _read_stored(folder: Path) -> dict[str, Any]:
    path = folder / CARD_NAME
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=each_key_once)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON ({error}); correct or remove it") from None
    if not isinstance(stored, dict):
        raise DataError(f"{path}: found {type(stored).__name__}, expected an object")
    for key in (*_LISTS, *_TEXTS):
        value, expected = stored.get(key), "a list of names" if key in _LISTS else "text"
        words = value if key in _LISTS else [value]
        if value is not None and not (isinstance(words, list) and all(isinstance(w, str) for w in words)):
            raise DataError(f"{path}: {key} is {value!r}; expected {expected}")
    return stored


def _unused_keys(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for keys that nothing reads, of which some may be slips."""
    known = (*_LISTS, *_TEXTS)
    unused = [key for key in stored if key not in known]
    if not unused:
        return ()
    near = {key: difflib.get_close_matches(key, known, 1, _ALIKE) for key in unused}
    shown = [f"{key} (did you mean {near[key][0]}?)" if near[key] else key for key in unused]
    shown.sort(key=lambda word: "did you mean" not in word)
    return (f"{CARD_NAME}: not used: {', '.join(shown)}",)


def _official_kind(name: str | None, table: Table, form: str) -> str:
    """Free text for an official task with such answers, else nothing yet."""
    official = official_name(name, frozenset(table.columns)) if form == TEXT_TO_TEXT else None
    return _FREE_TEXT if official is not None and OFFICIAL[official].free_text else ""


def _with_guessed_kind(card: Card, tables: Collection[Table]) -> Card:
    found = occurrences(tables, card.label_field)
    if card.choice_fields or any(_lists(table, _CHOICE_LIST) for table in tables):
        kind = "multiple_choice"
    elif len(card.label_fields) > 1 or looks_like_several(found):
        kind = "multi_label"
    elif not card.label_names and looks_like_numbers(found):
        kind = "regression"
    else:
        kind = "sentence_pair" if len(card.text_fields) == 2 else "single_sentence"
    notes = [_GUESSED.format(kind)]
    if len(card.label_fields) > 1:
        notes.append(f"columns of noughts and ones are labels: {card.label_field}; choose with --label-field")
    return replace(card, kind=kind, notes=(*card.notes, *notes))


def _check_kind(card: Card, flags: Flags, source: str) -> None:
    """Raises ConfigError for what the user said, DataError for what stands in the card."""
    if card.kind not in TASKS:
        known = f"kind is {card.kind!r}; allowed: {', '.join(TASKS)}"
        raise ConfigError(known) if flags.kind else DataError(f"{source}: {known}")
    if card.form == HEAD and card.task.writes:
        written = f"kind {card.kind} is written by a decoder"
        if flags.kind:
            raise ConfigError(f"{written}; give --form {TEXT_TO_TEXT} as well")
        raise DataError(f"{source}: {written}, no head answers it; give --form {TEXT_TO_TEXT}")
    if card.form == TEXT_TO_TEXT and TASKS[card.kind].in_text() is None:
        raise DataError(
            f"{source}: kind {card.kind} has no text-to-text form (a target is one label); train a head, "
            f"or, if its lists are right answers, give --kind {_FREE_TEXT}"
        )


def _check(card: Card, flags: Flags, source: str) -> None:
    wanted = card.task.data_kinds[card.kind] if card.form == HEAD else ()
    fields = ", ".join(card.text_fields)
    if not fields or (wanted and len(card.text_fields) not in wanted):
        taken = " or ".join(map(str, wanted or ("at least 1",)))
        told = (
            f"{source}: kind {card.kind} takes {taken} text field(s), got "
            f"{len(card.text_fields)}: {fields}; choose with --text-fields, or give --form {TEXT_TO_TEXT}, "
            "which takes any number"
        )
        raise (ConfigError if flags.text_fields else DataError)(told)
    if card.label_names is not None and len(set(card.label_names)) != len(card.label_names):
        raise DataError(f"{source}: label_names has a name twice: {', '.join(card.label_names)}")
