"""Label columns as people have them, drawn, with what each row's label is by the law of labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tests.label_law import REFUSED, Answer, learnable, name_of, one_of, several_of
from tests.written_tables import Sheet

_WORDS = ("billing", "urgent", "refund", "café", "how to", "naïve", "spam", "日本")
_ONE_LABEL = "single_sentence"
_SEVERAL = "multi_label"


@dataclass(frozen=True)
class LabelColumn:
    """Values of the label field in all rows, of which the first are train's, and what a run is told of them.

    `values` are lists for several labels; for one-hot columns rows of `fields`. `answer` is what each row
    must give.
    """

    values: list[Any]
    num_train: int
    answer: Answer
    kind: str | None = None
    names: tuple[str, ...] | None = None
    type: Any = None
    class_names: tuple[str, ...] | None = None
    fields: tuple[str, ...] = ("label",)
    fields_given: bool = False
    print_list: Callable[[Sequence[Any]], str] = field(default=str, repr=False)

    @property
    def sheets(self) -> tuple[Sheet, Sheet]:
        """Train and validation; the place of the label among the columns depends on the values."""
        cut = self.num_train
        return self._sheet(self.values[:cut], "train"), self._sheet(self.values[cut:], "validation")

    def _sheet(self, values: list[Any], split: str) -> Sheet:
        columns: dict[str, Any] = {"text": [f"{split}, row {row}" for row in range(len(values))]}
        several = len(self.fields) > 1
        for place, name in enumerate(self.fields):
            columns[name] = [value[place] for value in values] if several else values
        if len(self.values) % 2:
            columns = dict(reversed(columns.items()))
        types = {} if self.type is None else dict.fromkeys(self.fields, self.type)
        return Sheet(columns, types, self.print_list, self.class_names)


def _values(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Two to ten rows out of a few different values, so that labels repeat."""
    few = st.lists(of, min_size=2, max_size=4)
    return few.flatmap(
        lambda values: st.lists(st.sampled_from(values), max_size=6).flatmap(
            lambda more: st.permutations([*values, *more])
        )
    )


def _sizes(values: Sequence[Any]) -> st.SearchStrategy[int]:
    return st.integers(1, len(values) - 1)


_any_text = st.text(st.characters(codec="utf-8"), max_size=12)
_odd_texts = st.sampled_from(
    [
        *("01", "007", "1e5", "1_000", "+1", "1.", "1.0", "2.50", "1,5", "0", "-0", "-1", "-1.0"),
        *("True", "TRUE", "no", "No ", "null", "nan", "None", "N/A", "#N/A", "=1", "-"),
        *(" x", "\u00a0x\u00a0", "\ufeffa", "🙂", "e\u0301", "a\tb", "a\nb", "a\rb", "x" * 200, "x" * 201),
        *("a,b", "a;b", "a|b", "[x]", "['a']", '"', "'"),
    ]
)


@st.composite
def texts(draw: st.DrawFn) -> LabelColumn:
    """Any texts, codes and slips among them."""
    values = draw(_values(_any_text | _odd_texts | st.sampled_from(_WORDS)))
    kind = draw(st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]))
    size = draw(_sizes(values))
    return LabelColumn(values, size, one_of(values, size), _ONE_LABEL, type=kind)


@st.composite
def words(draw: st.DrawFn) -> LabelColumn:
    """Plain words, of which some may be missing; no kind is given, names perhaps."""
    values = draw(_values(st.sampled_from(_WORDS) | st.sampled_from([f"{word} " for word in _WORDS])))
    if not draw(st.integers(0, 7)):
        values[draw(st.integers(0, len(values) - 1))] = None
    size = draw(_sizes(values))
    names = draw(st.none() | st.permutations(_WORDS).map(tuple))
    if names is not None and draw(st.booleans()):
        names = names[:4]
    kind = draw(st.sampled_from([None, _ONE_LABEL]))
    return LabelColumn(values, size, one_of(values, size, names), kind, names)


_WHOLE_TYPES = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
]
_BOUNDS = {str(kind): (int(np.iinfo(str(kind)).min), int(np.iinfo(str(kind)).max)) for kind in _WHOLE_TYPES}


@st.composite
def whole_numbers(draw: st.DrawFn) -> LabelColumn:
    """Integers of every width, as integers, floats, decimals or text; with gaps, large or negative."""
    kind = draw(st.sampled_from(_WHOLE_TYPES))
    low, high = _BOUNDS[str(kind)]
    numbers = st.integers(low, high) | st.integers(max(low, -2), 5)
    values = draw(_values(numbers))
    form = draw(st.sampled_from(["int", "numpy", "float", "decimal", "text", "padded", "dictionary", "gap"]))
    if form in ("float", "gap"):
        values, kind = [float(value) for value in values], pa.float64()
    if form == "gap":
        values[draw(st.integers(0, len(values) - 1))] = None
    elif form == "decimal":
        values, kind = [Decimal(value) for value in values], pa.decimal128(30, 1)
    elif form == "text":
        values, kind = [str(value) for value in values], pa.string()
    elif form == "padded":
        values, kind = [f"{value:04}" for value in values], pa.string()
    elif form == "numpy":
        values = [value.item() for value in np.array(values, dtype=str(kind))]
    elif form == "dictionary":
        kind = pa.dictionary(pa.int32(), kind)
    size = draw(_sizes(values))
    return LabelColumn(
        values, size, one_of(values, size), draw(st.sampled_from([None, _ONE_LABEL])), type=kind
    )


@st.composite
def fractions(draw: st.DrawFn) -> LabelColumn:
    """Floats of both widths with halves among them, as labels; or as numbers, where no kind is given."""
    wide = draw(st.booleans())
    small = st.floats(
        allow_nan=False,
        allow_infinity=False,
        width=64 if wide else 32,
        min_value=-(2.0**66),
        max_value=2.0**66,
    )
    values = draw(_values(small | st.sampled_from([0.5, 1.5, 2.0, -0.25, 100.0])))
    if not wide:
        values = [float(str(np.float32(value))) for value in values]
    size, kind = draw(_sizes(values)), draw(st.sampled_from([None, _ONE_LABEL]))
    answer = one_of(values, size)
    if kind is None and not all(value == int(value) for value in values):
        answer = list(values) if learnable(values, size) else REFUSED
    type_ = pa.float64() if wide else pa.float32()
    return LabelColumn(values, size, answer, kind, type=type_)


@st.composite
def booleans(draw: st.DrawFn) -> LabelColumn:
    """True and false, with or without names that say so."""
    values = draw(_values(st.booleans()))
    size = draw(_sizes(values))
    names = draw(st.sampled_from([None, ("false", "true"), ("True", "False"), ("no", "yes")]))
    return LabelColumn(values, size, one_of(values, size, names), None, names, pa.bool_())


@st.composite
def places(draw: st.DrawFn) -> LabelColumn:
    """Small numbers beside names: places in them, or the names themselves, or neither."""
    names = draw(
        st.sampled_from(
            [_WORDS[:3], _WORDS, ("1", "2", "3"), ("0", "1"), ("1", "0"), ("-1", "0", "1"), ("0", "x")]
        )
    )
    kind = draw(st.sampled_from([pa.int8(), pa.uint64(), pa.float64(), pa.string(), pa.float32()]))
    values = draw(_values(st.integers(0, len(names)) | st.integers(0, 1)))
    if pa.types.is_floating(kind):
        values = [float(value) for value in values]
    elif kind == pa.string():
        values = [draw(st.sampled_from([str(value), names[value % len(names)]])) for value in values]
    size = draw(_sizes(values))
    return LabelColumn(values, size, one_of(values, size, names), None, names, kind)


@st.composite
def of_the_hub(draw: st.DrawFn) -> LabelColumn:
    """Numbers with class names in the metadata of an Arrow file, and the names in other files."""
    names = draw(
        st.sampled_from(
            [_WORDS[:3], ("1", "2", "3", "4"), ("-1", "0", "1"), ("1", "0"), ("False", "True"), ("10", "9")]
        )
    )
    values = draw(_values(st.integers(0, len(names) - 1)))
    size = draw(_sizes(values))
    answer = one_of([names[value] for value in values], size)
    if answer != REFUSED:
        answer = [names[value] for value in values]
    return LabelColumn(values, size, answer, _ONE_LABEL, type=pa.int64(), class_names=names)


_PRINTED: list[Callable[[Sequence[Any]], str]] = [
    str,
    json.dumps,
    lambda items: json.dumps(items, ensure_ascii=False),
    lambda items: json.dumps(items, separators=(",", ":")),
]


def _printed_by_numpy(items: Sequence[Any]) -> str:
    return str(np.array(items))


@st.composite
def lists(draw: st.DrawFn) -> LabelColumn:
    """Lists of names or of places, which CSV has printed."""
    names = draw(st.none() | st.sampled_from([_WORDS[:4], ("a", "b"), ("1", "2", "3"), ("0", "1", "2")]))
    parts: st.SearchStrategy[Any] = st.sampled_from(
        names or ("it's", 'a "b"', "x, y", "🙂", "café", "\\n", "[z]")
    )
    if draw(st.booleans()):
        parts = st.integers(0, 3)
    elif not draw(st.integers(0, 3)):
        parts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8)
    unique = draw(st.integers(0, 5)) > 0
    values = draw(_values(st.lists(parts, max_size=3, unique=unique)))
    size = draw(_sizes(values))
    whole = [part for row in values for part in row if isinstance(part, int)]
    item = pa.int64() if whole else pa.string()
    kind = draw(st.sampled_from([None, _SEVERAL]))
    return LabelColumn(
        values,
        size,
        several_of(values, size, names),
        kind,
        names,
        pa.list_(item),
        print_list=draw(st.sampled_from(_PRINTED)),
    )


_BIT_FORMS: list[tuple[Callable[[int], Any], Any]] = [
    (int, pa.int64()),
    (int, pa.uint8()),
    (bool, pa.bool_()),
    (float, pa.float32()),
    (str, pa.string()),
]


@st.composite
def one_hot_lists(draw: st.DrawFn) -> LabelColumn:
    """Noughts and ones by place, in lists."""
    width = draw(st.integers(2, 4))
    as_form, item = draw(st.sampled_from(_BIT_FORMS))
    bits = draw(_values(st.lists(st.integers(0, 1), min_size=width, max_size=width)))
    values = [[as_form(bit) for bit in row] for row in bits]
    names = draw(st.none() | st.sampled_from([_WORDS[:width], _WORDS[:3]]))
    size = draw(_sizes(values))
    print_list = draw(st.sampled_from([*_PRINTED[:2], _printed_by_numpy]))
    kind, answer = draw(st.sampled_from([None, _SEVERAL])), several_of(values, size, names)
    return LabelColumn(values, size, answer, kind, names, pa.list_(item), print_list=print_list)


@st.composite
def one_hot_columns(draw: st.DrawFn) -> LabelColumn:
    """Noughts and ones in columns of their own, which may be named."""
    fields = draw(st.permutations(("toxic", "insult", "threat", "obscene")).map(tuple))[
        : draw(st.integers(2, 4))
    ]
    as_form, kind = draw(st.sampled_from(_BIT_FORMS))
    bits = draw(_values(st.lists(st.integers(0, 1), min_size=len(fields), max_size=len(fields))))
    size = draw(_sizes(bits))
    named = [sorted(name for name, bit in zip(fields, row, strict=True) if bit) for row in bits]
    answer: Answer = named if learnable(named, size) else REFUSED
    given = draw(st.booleans())
    names = draw(st.none() | st.permutations(fields).map(tuple)) if given else None
    values = [[as_form(bit) for bit in row] for row in bits]
    return LabelColumn(values, size, answer, None, names, kind, fields=fields, fields_given=given)


@st.composite
def delimited(draw: st.DrawFn) -> LabelColumn:
    """Cells with a separator between labels that also stand alone."""
    chosen = draw(st.permutations(_WORDS).map(lambda found: found[:3]))
    separator = draw(st.sampled_from([",", ";", "|", "\t"]))
    sets = draw(
        st.lists(
            st.lists(st.sampled_from(chosen), min_size=2, max_size=3, unique=True), min_size=1, max_size=5
        )
    )
    rows = draw(st.permutations([*sets, *([word] for word in chosen)]))
    space = draw(st.sampled_from(["", " "]))
    values = [f"{space}{separator}{space}".join(row) for row in rows]
    size, names = draw(_sizes(rows)), draw(st.none() | st.permutations(_WORDS).map(tuple))
    kind = draw(st.sampled_from([None, _SEVERAL])) if names is None else _SEVERAL
    return LabelColumn(values, size, several_of(rows, size, names), kind, names, pa.string())


KINDS: Mapping[str, st.SearchStrategy[LabelColumn]] = {
    "texts": texts(),
    "words": words(),
    "whole numbers": whole_numbers(),
    "fractions": fractions(),
    "booleans": booleans(),
    "places": places(),
    "of the hub": of_the_hub(),
    "lists": lists(),
    "one-hot lists": one_hot_lists(),
    "one-hot columns": one_hot_columns(),
    "delimited": delimited(),
}
"""All of them, with rows in any order."""


def answer_of(column: LabelColumn) -> Answer:
    """What must be read, in a form that compares."""
    return comparable(column, column.answer)


def comparable(column: LabelColumn, answer: Answer) -> Answer:
    """Sets in order; names of the hub by what they are called in files without them."""
    if answer == REFUSED:
        return REFUSED
    if column.class_names is not None:  # other files have no names, and a boolean's is "true"
        return [name_of(label) for label in answer]
    return [sorted(label) if isinstance(label, list) else label for label in answer]
