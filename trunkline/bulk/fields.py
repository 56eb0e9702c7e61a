"""How a row becomes an input of a task: by the task's own names of fields, in whatever columns they are.

Items are made by the code that training and `evaluate` make them with: a row is asked as it was learnt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from training.formats import Formatter
from training.rows.items import (
    BadFieldError,
    ChoiceItem,
    Item,
    ReadItem,
    formatted,
    joined_words,
    plain_texts,
    with_choices,
)
from trunkline.answers import Version
from trunkline.errors import Invalid

_SOURCE = "source"
_PLAIN = ("text", "text_pair")
_CHOICES = "choices"
_WORDS = "token_labels"
_NAME = re.compile(r"[\w.\-]+")
"""What a column's name looks like, and the first text of a file without a header hardly ever."""


@dataclass(frozen=True)
class Form:
    """What one input is made of, in the task's own names; `fixed` choices are the same for all rows.

    With `words` a text may also be a list of its words.
    """

    texts: tuple[str, ...]
    choices: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    formatter: Formatter | None = None
    words: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are read from a row."""
        return (*self.texts, *self.choices)


@dataclass(frozen=True)
class Reading:
    """A form, and the column of the file in which each of its fields is. Equal readings give equal inputs."""

    form: Form
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What the user says of fields; None: as in training."""

    text_fields: tuple[str, ...] | None = None
    choice_fields: tuple[str, ...] | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """Why a row is not asked."""

    message: str


def reading_for(
    reference: str, version: Version, columns: Mapping[str, Any], said: Said, source: str
) -> tuple[Reading, str]:
    """How rows with these columns (name -> Arrow type or None) are read for a task, and what is told of it.

    The task's own names come first, then those of the HTTP interface; then the only column there is.

    Raises:
        Invalid: fields that the file does not have, as many as the task has not, or that hold no texts.
    """
    try:
        forms = forms_of(version, said.choices)
    except (KeyError, TypeError) as error:
        raise Invalid(
            f"task {reference} makes its sources in a way that this client does not know ({error!r}); "
            "install the server's version of trunkline, or send finished sources as .txt"
        ) from None
    reading, told = _chosen(reference, forms, columns, said, source)
    if reading.form.formatter is None:
        for column in reading.columns:
            if not _may_hold_texts(columns[column]):
                raise Invalid(
                    f"{source}: the column {column!r} that task {reference} reads holds {columns[column]}, "
                    "not texts; say which column does with --text-fields"
                )
        if reading.form.words and _are_lists(columns[reading.columns[0]]):
            told = (
                f"{reference}: the words in {reading.columns[0]!r} are joined by single spaces; start and "
                "end of an entity are places in that text"
            )
    else:
        told = told or f"{reference}: sources are written as {reading.form.formatter.form()!r}"
    return reading, told


def forms_of(version: Version, fixed: Sequence[str] = ()) -> list[Form]:
    """The forms that an input of a task may be made of, the task's own first."""
    reads = version.reads or {}
    if version.kind == "multiple_choice":
        return _forms_with_choices(reads, tuple(fixed))
    if version.kind == "text_to_text":
        made = reads.get("formatter")
        finished = Form((_SOURCE,))
        if made is not None:
            formatter = Formatter.from_config(made)
            return [Form(formatter.fields, formatter=formatter), finished]
        return [finished] if _is_written(version) else [finished, Form(_PLAIN[:1])]
    own, words = version.fields or _PLAIN[:1], version.kind == _WORDS
    alone = [*own, _PLAIN[0]] if version.kind == "similarity" else []  # of one text, its embedding
    forms = [own, _PLAIN[: len(own)], *((name,) for name in alone)]
    return list(dict.fromkeys(Form(texts, words=words) for texts in forms))


def _forms_with_choices(reads: Mapping[str, Any], fixed: tuple[str, ...]) -> list[Form]:
    texts = tuple(reads.get("text_fields") or _PLAIN[:1])
    own = Form(texts, tuple(reads.get("choice_fields") or (_CHOICES,)))
    forms = [own, Form(_PLAIN[:1], (_CHOICES,))]
    if fixed:
        forms += [Form(texts, fixed=fixed), Form(_PLAIN[:1], fixed=fixed)]
    return list(dict.fromkeys(forms))


def _is_written(version: Version) -> bool:
    """Whether sources have a form that a plain text does not have."""
    return isinstance(version.example, str) and version.example not in ("", f"{{{_SOURCE}}}")


def _chosen(
    reference: str, forms: Sequence[Form], columns: Mapping[str, Any], said: Said, source: str
) -> tuple[Reading, str]:
    if said.text_fields or said.choice_fields:
        return _as_said(reference, forms, columns, said, source), ""
    for form in forms:
        if all(name in columns for name in form.names):
            plain = form is not forms[0] and not form.fixed
            return Reading(form, form.names), _told(reference, forms[0], form) if plain else ""
    own = forms[0] if not said.choices else forms[-1]
    only = next(iter(columns), "")
    if len(columns) == len(own.names) == 1 and _NAME.fullmatch(only):
        told = f"{source}: the only column, {only!r}, is read as the {own.names[0]!r} of task {reference}"
        return Reading(own, (only,)), told
    raise Invalid(_missing(reference, own, columns, source))


def _told(reference: str, own: Form, form: Form) -> str:
    return f"{reference}: the file has no {_listed(own.names)}; {_listed(form.names)} read instead"


def _missing(reference: str, own: Form, columns: Mapping[str, Any], source: str) -> str:
    missing = [name for name in own.names if name not in columns]
    flags = [
        flag
        for flag, names in (("--text-fields", own.texts), ("--choice-fields", own.choices))
        if set(names) & set(missing)
    ]
    header = ""
    if len(columns) == 1 and not _NAME.fullmatch(next(iter(columns))):
        header = "; if that is a text and no name, write a header above it, or call the file .txt"
    return (
        f"{source}: task {reference} reads the field{'s' * (len(own.names) > 1)} {_listed(own.names)}; "
        f"the file has no {_listed(missing)} among its columns {_listed(columns) or '(none)'}; say which "
        f"they are with {' and '.join(flags)}{header}"
    )


def _like(forms: Sequence[Form], said: Said) -> Form:
    """The task's own form; where plain texts may be one or two, that of as many as are said."""
    plain = [form for form in forms if form.formatter is None and not (form.choices or form.fixed)]
    if said.text_fields and len(plain) == len(forms):
        return next((form for form in plain if len(form.texts) == len(said.text_fields)), forms[0])
    return forms[0]


def _as_said(
    reference: str, forms: Sequence[Form], columns: Mapping[str, Any], said: Said, source: str
) -> Reading:
    """Each own field in the column that was given in its place."""
    form = _like(forms, said)
    texts, choices = said.text_fields or form.texts, said.choice_fields or form.choices
    if said.choices and not said.choice_fields:
        form, choices = replace(form, choices=(), fixed=said.choices), ()
    elif form.formatter is not None and len(texts) == 1 < len(form.texts):
        form = Form((_SOURCE,))  # one column for a source of several fields: it is written already
    elif form.choices and said.choice_fields and len(said.choice_fields) != len(form.choices):
        form = replace(form, choices=said.choice_fields)
    if said.choice_fields and not form.choices:
        raise Invalid(f"task {reference} has no choices; leave --choice-fields out")
    if len(texts) != len(form.texts):
        raise Invalid(
            f"--text-fields is {_listed(texts)}, task {reference} reads {len(form.texts)}: "
            f"{_listed(form.texts)}; name one column for each, in this order"
        )
    wanted = (*texts, *choices)
    missing = [name for name in wanted if name not in columns]
    if missing:
        flag = "--text-fields" if set(missing) & set(texts) else "--choice-fields"
        raise Invalid(
            f"{source}: no column {_listed(missing)} ({flag}) among {_listed(columns) or '(none)'}; "
            "correct the name"
        )
    return Reading(form, wanted)


def _are_lists(kind: Any) -> bool:
    return kind is not None and (pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _may_hold_texts(kind: Any) -> bool:
    """Whether a column of this Arrow type can hold texts, or lists of them; None: anything."""
    if kind is None or pa.types.is_null(kind):
        return True
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _may_hold_texts(kind.value_type)
    if pa.types.is_dictionary(kind):
        return _may_hold_texts(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def items_of(reading: Reading, columns: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Each row as the HTTP interface takes it, or Refused; `columns` are the values of `reading.columns`."""
    read, names = _reader(reading.form), reading.form.names
    shown = dict(zip(names, reading.columns, strict=True))
    fixed = {_CHOICES: [*reading.form.fixed]} if reading.form.fixed else {}
    for values in zip(*columns, strict=True):
        try:
            yield _wire(read({**fixed, **dict(zip(names, values, strict=True))}))
        except BadFieldError as error:
            field = shown.get(error.field, error.field)
            yield Refused(f"{field}: found {error.found}; {error.remedy}")


def _reader(form: Form) -> ReadItem:
    if form.formatter is not None:
        return formatted(form.formatter)
    if form.choices or form.fixed:
        return with_choices(form.texts, form.choices or (_CHOICES,))
    return joined_words(form.texts) if form.words else plain_texts(form.texts)


def _wire(item: Item) -> Any:
    if isinstance(item, ChoiceItem):
        return {"text": item.text, "choices": [*item.choices]}
    return item if isinstance(item, str) else {"text": item[0], "text_pair": item[1]}


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(map(repr, names))
