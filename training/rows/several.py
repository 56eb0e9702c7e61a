"""Several labels in one value: a list, a printed list, noughts and ones by place, a cell with a separator.

Which of these a column has is decided from all its values, never from one.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from training.errors import DataError
from training.rows.canonical import Occurrence, TargetError, canonical
from training.rows.printed import listed, printed_list

if TYPE_CHECKING:
    from training.rows.tables import Table

SEPARATORS = ("|", ";", ",", "\t", "\n")
"""What may part the labels of one cell, where some part is a label of another cell too."""
_SELDOM = ("/", "&", "+", " ")  # only where every part is a label elsewhere, or a name that was given
_BITS = {"0": 0, "1": 1, "false": 0, "true": 1}
_MOST = 0.7  # of the rows have a form that the others only fail


def parts_of(value: Any, separator: str | None = None) -> list[Any]:
    """The labels in one value; an empty cell has none."""
    parts = listed(value)
    if parts is not None:
        return parts
    if not isinstance(value, str):
        return [] if value is None else [value]
    cells = [value] if separator is None else value.split(separator)
    return [cell.strip() for cell in cells if cell.strip()]


def bit_of(value: Any) -> int | None:
    """0 or 1, where a value is that (or a boolean, or 1.0)."""
    try:
        return _BITS.get(canonical(value))
    except TargetError:
        return None


def bits_of(parts: Sequence[Any], width: int) -> list[int]:
    """One of each place. Raises TargetError."""
    bits = [bit for part in parts if (bit := bit_of(part)) is not None]
    if not len(bits) == len(parts) == width:
        raise TargetError(
            f"{list(parts)!r}"[:120],
            f"a row is a list of {width} noughts and ones; correct it, or choose the fields (--label-field)",
        )
    return bits


def one_hot_width(rows: Sequence[tuple[Sequence[Any], int]]) -> int:
    """How many places there are when rows (parts, count) are lists of as many noughts and ones; else 0.

    Of two places at least: as sets of labels such rows would name one twice, or all be the same set. Where a
    row names one twice, a few rows of another form do not count: they are refused when they are read.
    """
    sizes: Counter[int] = Counter()
    twice = False
    for parts, count in rows:
        bits = [bit_of(part) for part in parts]
        if len(bits) > 1 and None not in bits:
            sizes[len(bits)] += count
            twice = twice or len(set(bits)) < len(bits)
    width, most = sizes.most_common(1)[0] if sizes else (0, 0)
    total = sum(count for _, count in rows)
    return width if most == total or (twice and most >= _MOST * total) else 0


def one_hot_columns(table: "Table") -> tuple[str, ...]:
    """The fields that hold noughts and ones, but for a few rows; where there are at least two of them."""
    fields = tuple(name for name in table.columns if _is_one_hot(table, name))
    return fields if len(fields) > 1 else ()


def _is_one_hot(table: "Table", name: str) -> bool:
    seen = table.distinct(name)
    rows = list(zip(seen.values, seen.counts, strict=True))
    bits = sum(count for value, count in rows if bit_of(value) is not None)
    blank = sum(count for value, count in rows if value == "") + int((seen.codes < 0).sum())
    return bits > 0 and (bits + blank == table.num_rows or bits >= _MOST * table.num_rows)


def separator_of(found: Sequence[Occurrence], known: Collection[str] | None) -> tuple[str | None, list[str]]:
    """What parts the cells, if anything does, and what is told of it. `known` are canonical names, if given.

    Raises:
        DataError: two separators would do, and they are not the same; a list whose words are not in quotes.
    """
    cells = _cells(found)
    _refuse_bare_lists(cells)
    every = (*SEPARATORS, *_SELDOM)
    if known is not None:
        odd = [one for one in cells if canonical(one.value) not in known]
        fitting = [s for s in every if odd and all(_names_only(one, s, known) for one in odd)]
        fitting = fitting or [s for s in every if _bits_by(cells, s)]
        likely = next((s for s in SEPARATORS if _with(odd, s)), None)  # its parts are refused by name
        return (fitting[0] if fitting else likely), _told(fitting[:1])
    fitting = [s for s in SEPARATORS if _with(cells, s) and (s == "|" or _parts_labels(cells, s))]
    fitting = fitting or [s for s in _SELDOM if _shared(cells, s, all_of_them=True) or _bits_by(cells, s)]
    if len(fitting) > 1:
        shown = " and ".join(f"{s!r} ({_with(cells, s)[0].where})" for s in fitting)
        raise DataError(f"label cells are parted by {shown}; use one of them, or give label_names")
    doubtful = [] if fitting else [one for s in SEPARATORS for one in _with(cells, s)][:1]
    doubts = [f"{one.value!r} ({one.where}) is read as one label" for one in doubtful]
    return (fitting[0] if fitting else None), [*_told(fitting), *doubts]


def looks_like_several(found: Sequence[Occurrence]) -> bool:
    """Whether rows of no given kind have several labels: lists, printed or not, or cells that have parts."""
    if any(isinstance(one.value, list | tuple) for one in found):
        return True
    texts = [one for one in found if isinstance(one.value, str) and one.value.strip()]
    cells, every = _cells(texts), (*SEPARATORS, *_SELDOM)
    if len(cells) < len(texts) or any(_shared(cells, s, all_of_them=True) for s in every):
        return True
    return any(_bits_by(cells, s, least=3) for s in every)


def doubtful_cells(found: Sequence[Occurrence]) -> list[str]:
    """What is told where values are read as one label each and look like several."""
    cells = _cells(found)
    odd = [one for one in found if isinstance(one.value, str) and printed_list(one.value) is not None]
    odd += [one for s in SEPARATORS if _shared(cells, s) for one in _with(cells, s)]
    odd = [one for one in odd if not one.value.replace(",", "").strip().isdigit()]  # decimal commas
    remedy = "is learnt as one label and looks like several: --kind multi_label reads it so"
    return [f"{one.value!r} ({one.where}) {remedy}" for one in odd[:1]]


def _told(separators: Sequence[str]) -> list[str]:
    return [f"label cells are split at {separator!r}" for separator in separators]


def _cells(found: Sequence[Occurrence]) -> list[Occurrence]:
    """The texts that are no printed lists, and not empty."""
    texts = [one for one in found if isinstance(one.value, str) and one.value.strip()]
    return [one for one in texts if printed_list(one.value) is None]


def _with(cells: Sequence[Occurrence], separator: str) -> list[Occurrence]:
    return [one for one in cells if separator in one.value.strip()]


def _names_only(cell: Occurrence, separator: str, known: Collection[str]) -> bool:
    parts = parts_of(cell.value, separator)
    return bool(parts) and all(canonical(part) in known for part in parts)


def _shared(cells: Sequence[Occurrence], separator: str, *, all_of_them: bool = False) -> bool:
    """Whether a part of a cell is a label of another cell too (or every part is, and one stands alone)."""
    if not _with(cells, separator):
        return False
    rows = Counter(part for one in cells for part in _texts(one, separator))
    parted = {part for one in _with(cells, separator) for part in _texts(one, separator)}
    if not all_of_them:
        return any(rows[part] > 1 for part in parted)
    alone = {canonical(one.value) for one in cells}
    return bool(parted & alone) and all(rows[part] > 1 for part in parted)


def _texts(cell: Occurrence, separator: str) -> set[str]:
    return {canonical(part) for part in parts_of(cell.value, separator)}


def _parts_labels(cells: Sequence[Occurrence], separator: str) -> bool:
    return _shared(cells, separator) or _bits_by(cells, separator)


def _bits_by(cells: Sequence[Occurrence], separator: str, *, least: int = 2) -> bool:
    """Whether a separator makes all cells lists of as many noughts and ones."""
    if not _with(cells, separator):
        return False
    return one_hot_width([(parts_of(one.value, separator), one.count) for one in cells]) >= least


def _refuse_bare_lists(cells: Sequence[Occurrence]) -> None:
    for one in cells:
        text = one.value.strip()
        if text.startswith("[") and text.endswith("]") and ("," in text or "..." in text):
            raise DataError(
                f"{one.where}: {text[:80]!r} is no list that can be read: put its words in quotes, or part "
                "labels by '|' without brackets"
            )
