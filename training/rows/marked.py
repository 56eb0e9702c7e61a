"""Texts whose parts are labelled, tokens with tags or spans by character, in one form: a text and its spans.

Words that came apart are joined by single spaces: whatever a file looked like, a model sees texts, in
training as when it serves. What only text and label of a row together can tell is found here; a row that
cannot be used carries its TargetError, which is raised with its place when the row is read.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from training.rows.canonical import TargetError
from training.rows.items import text_of
from training.rows.printed import listed
from training.rows.tables import Table
from training.rows.tags import OUTSIDE, Scheme, is_tag, scheme_of

SPAN_FIELDS = ("entities", "spans")
TAG_FIELDS = ("tags", "ner_tags")
TOKEN_FIELDS = ("tokens", "words")
_SPAN_FORM = 'a span is {"start": 3, "end": 8, "label": "X"}, in characters of the text; correct the row'
_TAG_FORM = "tags are a list with one tag for each token"
_WORD = re.compile(r"\S+")


class Mark(NamedTuple):
    """A labelled part of a text, from `start` to `end` (characters)."""

    start: int
    end: int
    label: str


@dataclass
class _Told:
    """What a person should know: how many, and where first."""

    odd: int = 0
    odd_rows: int = 0
    trimmed: int = 0
    first: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Tagged:
    """A row of words with tags: where each word stands in the text."""

    places: list[tuple[int, int]]
    tags: list[str]


_Read = tuple[Any, _Tagged | list[Mark] | TargetError | None]


def marked(
    tables: Mapping[str, Table], text_field: str, label_field: str, names: Sequence[str] | None
) -> tuple[dict[str, Table], list[str]]:
    """The tables with a text and a tuple of marks (or what is wrong) in each row; and what is told of them.

    `names` are those of tags that are numbers. Raises DataError for tags of several schemes.
    """
    read = {
        split: list(_rows(table.values(text_field), table.values(label_field), names))
        for split, table in tables.items()
    }
    rows = [row for found in read.values() for _, row in found]
    tags = [row.tags for row in rows if isinstance(row, _Tagged)]
    scheme = scheme_of(tags, f"{next(iter(tables.values())).source}, field {label_field!r}")
    told = _Told()
    found = {}
    for split, table in tables.items():
        texts = [text for text, _ in read[split]]
        marks = [_marks(*row, scheme, table, place, told) for place, row in enumerate(read[split])]
        found[split] = replace(table, columns={**table.columns, text_field: texts, label_field: marks})
    return found, _notes(scheme if tags else None, told)


def looks_marked(table: Table) -> bool:
    """Whether the first row has words with tags, or spans, in fields of the usual names."""
    few = table.take(range(min(1, table.num_rows)))
    if any(_are_spans(value) for name in SPAN_FIELDS for value in few.values(name)):
        return True
    words = [value for name in TOKEN_FIELDS for value in few.values(name) if isinstance(value, list)]
    tags = [value for name in TAG_FIELDS for value in few.values(name) if isinstance(value, list)]
    return bool(words) and any(len(words[0]) == len(one) for one in tags)


def _are_spans(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and "start" in one for one in value)


def _rows(texts: Sequence[Any], values: Sequence[Any], names: Sequence[str] | None) -> Iterator[_Read]:
    for text, value in zip(texts, values, strict=True):
        try:
            yield _row(text, _list_of(value), names)
        except TargetError as error:
            yield (text_of(text) if isinstance(text, list) else text), error


def _row(text: Any, value: list[Any] | None, names: Sequence[str] | None) -> _Read:
    words = listed(text)
    if value is None:
        return (text if words is None else text_of(words)), None
    if any(isinstance(one, dict | list | tuple) for one in value) or (not value and words is None):
        if isinstance(text, list):
            raise TargetError(
                f"spans beside a list of {len(text)} tokens",
                "spans are places in a text: name its field (--text-fields)",
            )
        return text, [_span(text, one, place) for place, one in enumerate(value)]
    if words is None:
        words = _WORD.findall(text) if isinstance(text, str) else []
        places = [found.span() for found in _WORD.finditer(text)] if isinstance(text, str) else []
    else:
        text = text_of(words)
        places = list(_places(words)) if isinstance(text, str) else []
    if isinstance(text, str) and len(value) != len(words):
        raise TargetError(f"{len(value)} tags for {len(words)} tokens", f"{_TAG_FORM}; correct the row")
    return text, _Tagged(places, [_tag(one, names) for one in value])


def _places(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for word in words:
        yield start, start + len(word)
        start += len(word) + 1


def _list_of(value: Any) -> list[Any] | None:
    """A list, also one that a program wrote into a cell, or tags with spaces or commas between."""
    if value is None or isinstance(value, list):
        return value
    if isinstance(value, str):
        for parse in (json.loads, ast.literal_eval, listed):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
                found = parse(value)
                if isinstance(found, list | tuple):
                    return list(found)
        parts = value.replace(",", " ").split()
        if parts and all(map(is_tag, parts)):
            return list(parts)
    raise TargetError(f"{value!r:.80} ({type(value).__name__})", f"{_TAG_FORM}; {_SPAN_FORM}")


def _tag(value: Any, names: Sequence[str] | None) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int):
        raise TargetError(
            f"the tag {value!r:.60} ({type(value).__name__})", f"{_TAG_FORM}: a name or a number"
        )
    if not names or OUTSIDE not in names:
        raise TargetError(
            f"the tag {value}",
            "numbers are places in the names of the tags: give these with --label-names O,B-X,I-X,...",
        )
    if not 0 <= value < len(names):
        raise TargetError(f"the tag {value}", f"there are {len(names)} names of tags: 0 to {len(names) - 1}")
    return names[value]


def _span(text: Any, value: Any, place: int) -> Mark:
    """As it stands, within the text. Raises TargetError."""
    parts = value
    if isinstance(value, dict):
        parts = [value.get(name) for name in ("start", "end", "label")]
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        raise TargetError(f"[{place}] {value!r:.80}", _SPAN_FORM)
    start, end, label = parts
    if not (_is_place(start) and _is_place(end) and isinstance(label, str | int) and str(label).strip()):
        raise TargetError(f"[{place}] {value!r:.80}", _SPAN_FORM)
    size = len(text) if isinstance(text, str) else 0
    if not 0 <= start < end <= size:
        found = f"[{place}] {start} to {end} in a text of {size} characters"
        raise TargetError(found, "a span begins before it ends, within its text; correct the row")
    wanted = value.get("text") if isinstance(value, dict) else None
    if isinstance(wanted, str) and wanted != text[start:end]:
        found = f"[{place}] {wanted!r:.40}, and {text[start:end]!r:.40} stands from {start} to {end}"
        raise TargetError(
            found, "offsets count characters of the text as it stands in the file; correct them"
        )
    return Mark(start, end, str(label).strip())


def _is_place(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _marks(
    text: Any,
    row: _Tagged | list[Mark] | TargetError | None,
    scheme: Scheme,
    table: Table,
    place: int,
    told: _Told,
) -> tuple[Mark, ...] | TargetError | None:
    """The marks of a row in the order of the text, none over another, without space at their ends."""
    if row is None or isinstance(row, TargetError) or not isinstance(text, str):
        return row if isinstance(row, TargetError) else None
    if isinstance(row, _Tagged):
        spans, odd = scheme.spans(row.tags)
        found = [Mark(row.places[first][0], row.places[last][1], label) for first, last, label in spans]
        if odd:
            told.odd, told.odd_rows = told.odd + len(set(odd)), told.odd_rows + 1
            told.first.setdefault("odd", f"{table.where(place)}: {row.tags[odd[0]]!r} at token {odd[0]}")
    else:
        found = row
    try:
        return _sound(text, found, table.where(place), told)
    except TargetError as error:
        return error


def _sound(text: str, found: Sequence[Mark], where: str, told: _Told) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    for mark in sorted(found):
        start, end = mark.start, mark.end
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        if start == end:
            raise TargetError(
                f"a span of spaces, {mark.start} to {mark.end}", "remove it, or correct its place"
            )
        if marks and start < marks[-1].end:
            both = f"{tuple(marks[-1])} and {(start, end, mark.label)}"
            raise TargetError(f"spans over each other: {both}", "a character has one label; keep one of them")
        if (start, end) != (mark.start, mark.end):
            told.trimmed += 1
            told.first.setdefault("trimmed", where)
        marks.append(Mark(start, end, mark.label))
    return tuple(marks)


def _notes(scheme: Scheme | None, told: _Told) -> list[str]:
    notes = []
    if scheme is not None and scheme.bare:
        notes.append("tags are labels without B- and I-: neighbours with one label are one entity")
    elif scheme is not None and scheme.name != "BIO":
        notes.append(f"tags are {scheme.name}; they are read as entities, and the file will say B- and I-")
    if told.odd:
        first = told.first["odd"]
        notes.append(
            f"{told.odd} tags in {told.odd_rows} rows cannot follow what is before them ({first}): each run "
            "of one label is read as an entity; correct them if that is wrong"
        )
    if told.trimmed:
        where = told.first["trimmed"]
        notes.append(f"{told.trimmed} spans begin or end with a space ({where}), which is cut off")
    return notes
