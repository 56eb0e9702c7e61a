"""The law of labels (docs/training.md): one vocabulary for a data set, and how its values mean names.

A label is the value as it stands in the data, known by its canonical text. What a column as a whole means
is decided once, over all rows of all splits, and told; what cannot be decided is refused by name. Costs
follow the number of different values. Knows no files, no models.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from training.errors import DataError
from training.rows.canonical import (
    Occurrence,
    Seen,
    TargetError,
    canonical,
    in_order,
    is_fraction,
    is_number,
    is_whole,
    seen_texts,
)
from training.rows.doubts import doubts_of, folded, shorten_list
from training.rows.several import bits_of, doubtful_cells, one_hot_width, parts_of, separator_of

MAX_LABELS = 10_000


@dataclass(frozen=True)
class Labels:
    """How a value of the label field means indices into `names`.

    `meaning` gives the index of each canonical text, `order` that of each place of a one-hot list. A cell is
    split at `separator`. `hint` is the remedy for what is none of them; `others` are names of other data.
    """

    names: tuple[str, ...]
    meaning: Mapping[str, int]
    order: tuple[int | None, ...] = ()
    separator: str | None = None
    hint: str = ""
    others: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str]) -> "Labels":
        """By name. Raises DataError where two names are one canonical text."""
        meaning: dict[str, int] = {}
        for index, name in enumerate(names):
            other = meaning.setdefault(canonical(name), index)
            if other != index:
                raise DataError(
                    f"label_names: {names[other]!r} and {name!r} are the same label; name each once"
                )
        return cls(tuple(names), meaning)

    def index(self, value: Any) -> int:
        """Of one label. Raises TargetError for what is none of the names."""
        text = canonical(value)
        if not text:
            raise TargetError("an empty label", "every row needs a label: fill it in or remove the row")
        if text in self.meaning:
            return self.meaning[text]
        near = self._by_fold.get(folded(text))
        only = f"; it differs from {near!r} only by case, spaces, invisible characters or zeros"
        found = f"label {self.others.get(text, text)[:80]!r}"
        raise TargetError(found, f"allowed: {self._allowed()}{self.hint if near is None else only}")

    def indices(self, value: Any) -> tuple[int, ...]:
        """Of any number of labels. Raises TargetError, also for one that is named twice."""
        parts = parts_of(value, self.separator)
        if self.order:
            bits = bits_of(parts, len(self.order))
            return tuple(sorted(self._at(place, value) for place, bit in enumerate(bits) if bit))
        found = [self.index(part) for part in parts]
        if len(set(found)) < len(found):
            raise TargetError(f"{value!r}"[:120], "a label stands there twice; name each once")
        return tuple(sorted(found))

    def covers(self, found: Iterable[Occurrence]) -> bool:
        """Whether every value is read."""
        for one in found:
            try:
                self.indices(one.value)
            except TargetError:
                return False
        return True

    def within(self, names: Sequence[str]) -> "Labels":
        """The same reading, with indices into the `names` of a trained task; others are refused by row."""
        known = Labels.of(names).meaning
        moved = [known.get(canonical(name)) for name in self.names]
        meaning = {text: new for text, old in self.meaning.items() if (new := moved[old]) is not None}
        order = tuple(None if old is None else moved[old] for old in self.order)
        hint = "; evaluate it on data with the adapter's own labels"
        others = {text: self.names[old] for text, old in self.meaning.items() if moved[old] is None}
        return replace(self, names=tuple(names), meaning=meaning, order=order, hint=hint, others=others)

    @cached_property
    def _by_fold(self) -> Mapping[str, str]:
        """Made once: a wrong field has as many unknown labels as rows."""
        return {folded(text): text for text in self.meaning}

    def _at(self, place: int, value: Any) -> int:
        index = self.order[place]
        if index is None:
            raise TargetError(f"{value!r}"[:120], f"place {place} is none of the adapter's labels{self.hint}")
        return index

    def _allowed(self) -> str:
        shown = ", ".join(repr(name) for name in self.names[:8])
        return shown if len(self.names) <= 8 else f"{shown} and {len(self.names) - 8} more"


def one_label(
    found: Sequence[Occurrence], names: Sequence[str] | None, *, places: bool = True
) -> tuple[Labels, list[str]]:
    """How single labels are read, and what a person should know about it.

    `names` were given, or are a trained task's; with `places` numbers may be places in them.
    """
    labels, told = _resolved(seen_texts(found), names, places=places)
    return labels, [*told, *(doubtful_cells(found) if names is None else [])]


def several_labels(
    found: Sequence[Occurrence], names: Sequence[str] | None, *, places: bool = True
) -> tuple[Labels, list[str]]:
    """How values with any number of labels are read, and what a person should know about it.

    Raises:
        DataError: forms that contradict each other (two separators; one-hot rows that do not fit the names).
    """
    separator, notes = separator_of(found, None if names is None else Labels.of(names).meaning)
    rows = [parts_of(one.value, separator) for one in found]
    width = one_hot_width([(row, one.count) for row, one in zip(rows, found, strict=True)])
    if width:
        labels, told = one_hot(width, names)
    else:
        parts = [replace(one, value=part) for one, row in zip(found, rows, strict=True) for part in row]
        texts = seen_texts(parts)
        _refuse_shares(texts)
        labels, told = _resolved(texts, names, places=places)
    return replace(labels, separator=separator), [*notes, *told]


def one_hot(width: int, names: Sequence[str] | None) -> tuple[Labels, list[str]]:
    """Noughts and ones by place. Raises DataError for other names than places."""
    if names is not None and len(names) != width:
        raise DataError(
            f"the label rows are lists of {width} noughts and ones, one for each label, and there are "
            f"{len(names)} label names; give one name for each place (label_names)"
        )
    labels = Labels.of(names or [str(place) for place in range(width)])
    named = "" if names else "; the places have no names, answers will say '0', '1', ... (give label_names)"
    note = f"a label is a list of {width} noughts and ones, one for each label name{named}"
    return replace(labels, order=tuple(range(width))), [note]


def _resolved(
    texts: Mapping[str, Seen], names: Sequence[str] | None, *, places: bool
) -> tuple[Labels, list[str]]:
    if names is None and len(texts) > MAX_LABELS:
        raise DataError(f"{len(texts)} different labels; at most {MAX_LABELS}: is the label field right?")
    told = doubts_of(texts) if len(texts) <= MAX_LABELS else []
    if names is None:
        own = Labels.of(in_order(texts))
        return own, [*_taken(own.names), *_mixed(texts), *told]
    labels = Labels.of(names)
    known = [text for text in texts if text in labels.meaning]
    used = [text for text in texts if _is_place(text, len(names))]
    if known or not used or not places:
        return replace(labels, hint=_hint(texts, labels, known, places=places)), told
    meaning = {str(place): place for place in range(len(names))}
    shown = shorten_list([f"{text} = {names[int(text)]}" for text in in_order(used)])
    hint = "-1 marks rows whose labels are hidden: leave those out" if "-1" in texts else "correct the row"
    hint = f", or its place, 0 to {len(names) - 1}, as the other rows have it; {hint}"
    return replace(labels, meaning=meaning, hint=hint), [
        f"numbers are places in label_names: {shown}",
        *told,
    ]


def _is_place(text: str, num_names: int) -> bool:
    return is_whole(text) and len(text) < 10 and 0 <= int(text) < num_names


def _taken(names: Sequence[str]) -> list[str]:
    if names and all(map(is_number, names)):
        shown = ", ".join(map(repr, names[:2]))
        return [
            f"labels are numbers without names; answers will say {shown}, ... (give label_names to name them)"
        ]
    return [f"no label_names given: {len(names)} names were taken from the rows"] if names else []


def _mixed(texts: Mapping[str, Seen]) -> list[str]:
    numbers = [text for text in texts if is_number(text)]
    if not numbers or len(numbers) == len(texts):
        return []
    shown = shorten_list([f"{text!r} ({texts[text].where})" for text in in_order(numbers)])
    return [f"numbers stand beside words as labels: {shown}; correct them if they are slips"]


def _hint(texts: Mapping[str, Seen], labels: Labels, known: Sequence[str], *, places: bool) -> str:
    """What helps where a text is none of the names."""
    unknown = [text for text in texts if text not in labels.meaning]
    hint = "; correct the row or the label names"
    if "-1" in unknown:
        return f"{hint} (-1 marks rows whose labels are hidden: leave those out)"
    if not places or not any(map(is_whole, unknown)):
        return hint
    if known:
        return f"{hint} ({known[0]!r} in {texts[known[0]].where} is a name, so no number is a place)"
    return f"{hint} (or, in every row, the place of a name: 0 to {len(labels.names) - 1})"


def _refuse_shares(texts: Mapping[str, Seen]) -> None:
    """Lists of probabilities would each become a name."""
    if texts and all(map(is_number, texts)) and (share := next(filter(is_fraction, texts), None)):
        raise DataError(
            f"{texts[share].where}: the label lists hold {share}; a list names labels, or has a 0 or 1 for "
            "each: shares are not learnt, round them first"
        )


def looks_like_numbers(found: Sequence[Occurrence]) -> bool:
    """Whether all labels are numbers and some are not whole: a regression."""
    texts = seen_texts(found)
    return bool(texts) and all(map(is_number, texts)) and any(map(is_fraction, texts))
