"""The first law of labels: the one text of a value, the same whatever format the row came in.

A format such as CSV has only text, so text that is written exactly as a whole number or a boolean is that
number or boolean; all other text stays as it stands.
"""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from training.errors import DataError

if TYPE_CHECKING:
    from training.rows.tables import Table

_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
_POWER = re.compile(r"-?[1-9](?:\.[0-9]+)?[eE][+-][0-9]{1,3}")
"""As programs write very large and very small floats."""
_FRACTION = re.compile(r"-?[0-9]+\.[0-9]+")


class TargetError(ValueError):
    """A label in the file is not one of this task. `found` says what was there, `remedy` what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"found {found}; {remedy}")
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True, eq=False)
class Occurrence:
    """One different value of the label field, the row of `table` where it is first, and in how many rows."""

    value: Any
    table: "Table"
    row: int = 0
    count: int = 1

    @property
    def where(self) -> str:
        """As messages say it: "train.csv, row 7"."""
        return self.table.where(self.row)


def occurrences(tables: Iterable["Table"], field: str) -> list[Occurrence]:
    """The different values of a field in all tables that have it."""
    seen = [(table, table.distinct(field)) for table in tables if field in table.columns]
    return [
        Occurrence(value, table, row, count)
        for table, distinct in seen
        for value, row, count in zip(distinct.values, distinct.first, distinct.counts, strict=True)
    ]


def canonical(value: Any) -> str:
    """The one text of a label: `2`, `2.0` and "2.0" are "2", True is "true", "01" stays, white space is cut.

    Raises:
        TargetError: a value that is no label (a list, an object, a number that is not finite).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, int | float | Decimal):
        if not isinstance(value, int) and not math.isfinite(value):
            raise TargetError(f"{value}", "a label is a finite number or text; correct or remove the row")
        return _of_text(repr(value) if isinstance(value, float) else str(value))
    if isinstance(value, date | time):
        return str(value)
    if value is None:
        raise TargetError("null", "every row needs a label: fill it in or remove the row")
    remedy = "several labels are --kind multi_label" if isinstance(value, list) else "correct the row"
    found = f"{value!r} ({type(value).__name__})"[:120]
    raise TargetError(found, f"a label is a text or a number; {remedy}")


def _of_text(text: str) -> str:
    if found := _WHOLE.fullmatch(text):
        return "0" if found[1] == "-0" else found[1]
    if _POWER.fullmatch(text) and math.isfinite(value := float(text)):
        return str(int(value)) if value.is_integer() else format(Decimal(text), "f")
    return _BOOLEANS.get(text, text)


def is_whole(text: str) -> bool:
    """Whether a canonical text is that of a whole number."""
    return bool(_WHOLE.fullmatch(text))


def is_number(text: str) -> bool:
    """Whether it is that of a number."""
    return is_whole(text) or is_fraction(text)


def is_fraction(text: str) -> bool:
    """Whether it is that of a number that is not whole."""
    return bool(_FRACTION.fullmatch(text))


def in_order(texts: Collection[str]) -> tuple[str, ...]:
    """Canonical texts in their natural order: numbers by value, then the others by text."""
    numbers = [text for text in texts if is_number(text)]
    words = [text for text in texts if not is_number(text)]
    return (*sorted(numbers, key=lambda text: (Decimal(text), text)), *sorted(words))


@dataclass
class Seen:
    """A canonical text: where it is first, and how it was spelled."""

    first: Occurrence
    spelled: dict[str, None] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return self.first.where


def seen_texts(found: Sequence[Occurrence]) -> dict[str, Seen]:
    """By canonical text. Raises DataError when no value is a label; others are refused row by row."""
    texts: dict[str, Seen] = {}
    bad: list[str] = []
    for one in found:
        try:
            text = canonical(one.value)
        except TargetError as error:
            bad.append(f"{one.where}: {error}")
            continue
        if text:
            seen = texts.setdefault(text, Seen(one))
            if isinstance(one.value, str):
                seen.spelled[one.value.strip()] = None
    if bad and not texts:
        raise DataError(bad[0])
    return texts
