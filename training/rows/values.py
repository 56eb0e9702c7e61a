"""A column, and its values as Python has them: exact types, one spelling of a number whatever its width."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Values: TypeAlias = pa.ChunkedArray | list[Any]
"""A column: Arrow where the file has types or texts of its own, else (JSON, workbooks) Python values."""


@dataclass(frozen=True)
class Part:
    """Some rows of one file: columns, and the number of each row in the file.

    A reader's first part has no rows: it tells the columns, the notes and the class names.
    """

    columns: Mapping[str, Values]
    numbers: Sequence[int] = ()
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Distinct:
    """The different values of a column, by first occurrence: 1, 1.0, True and "1" are different.

    `codes` [N] is each row's place in `values`, -1 where the row has none; `first` and `counts` say where a
    value is first (row from 0) and how often it is there.
    """

    values: list[Any]
    codes: npt.NDArray[np.int64]
    first: list[int]
    counts: list[int]


def part_of(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Part:
    """Of rows with their numbers; a field that a row lacks is None."""
    names = dict.fromkeys(name for _, row in rows for name in row)
    columns = {name: [row.get(name) for _, row in rows] for name in names}
    return Part(columns, [number for number, _ in rows])


def parts_of(batches: Iterable[Any], names: Mapping[int, str], max_rows: int, first: int) -> Iterator[Part]:
    """Of Arrow batches: the columns with a name, in parts of at most `max_rows`, numbered from `first`."""
    for batch in batches:
        for start in range(0, batch.num_rows, max_rows):
            part = batch.slice(start, max_rows)
            arrays = {name: pa.chunked_array([part.column(place)]) for place, name in names.items()}
            columns = {name: plain_column(array) for name, array in arrays.items()}
            yield Part(columns, range(first, first + part.num_rows))
            first += part.num_rows


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without a dictionary, and as an extension type stores it."""
    while isinstance(column.type, pa.DictionaryType | pa.BaseExtensionType):
        inner = "value_type" if isinstance(column.type, pa.DictionaryType) else "storage_type"
        column = column.cast(getattr(column.type, inner))
    return column


def python_values(column: Values) -> list[Any]:
    """Python values; None for null and NaN. Narrow floats are shortest decimals: 0.1, not 0.10000000149."""
    if isinstance(column, list):
        return column
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        return texts
    try:
        values: list[Any] = column.to_pylist()
    except ValueError:  # nanoseconds, which Python's times do not have
        return python_values(column.cast(pa.string()))
    simple = not (pa.types.is_nested(kind) or pa.types.is_floating(kind))
    return values if simple else [_exact(value, kind) for value in values]


def _exact(value: Any, kind: Any) -> Any:
    """A value of a nested or floating type."""
    if isinstance(value, list):
        return [_exact(one, getattr(kind, "value_type", kind)) for one in value]
    if not isinstance(value, float):
        return value
    if math.isnan(value):
        return None
    narrow = pa.types.is_float32(kind) or pa.types.is_float16(kind)
    return float(str(kind.to_pandas_dtype()(value))) if narrow else value


def plain_value(value: Any) -> Any:
    """A value of the Python API: numpy's values, tuples, sets and mappings become Python's own."""
    if isinstance(value, Mapping):
        return {name: plain_value(one) for name, one in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        return [plain_value(one) for one in value]
    if isinstance(value, (np.generic, np.ndarray)):
        narrow = value.dtype.kind == "f" and value.itemsize < 8
        value = float(str(value)) if narrow else value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def distinct_values(column: Values) -> Distinct:
    """The different values, at the cost of their number where the column is Arrow's and not nested."""
    if isinstance(column, list) or pa.types.is_nested(column.type):
        return _distinct(*_coded(python_values(column)))
    encoded = column.dictionary_encode()
    if not encoded.num_chunks:
        return _distinct([], np.empty(0, np.int64))
    values, places = _coded(python_values(pa.chunked_array([encoded.chunk(0).dictionary])))
    codes = np.concatenate(
        [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in encoded.chunks]
    )
    return _distinct(values, np.append(places, -1)[codes])


def _coded(values: list[Any]) -> tuple[list[Any], npt.NDArray[np.int64]]:
    known: dict[Any, int] = {}
    found: list[Any] = []
    codes = np.full(len(values), -1, np.int64)
    for row, value in enumerate(values):
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            code = codes[row] = known.setdefault(_key(value), len(found))
            if code == len(found):
                found.append(value)
    return found, codes


def _key(value: Any) -> Any:
    """Equal for the same value of the same type."""
    if isinstance(value, list):
        return list, tuple(map(_key, value))
    if isinstance(value, dict):
        return dict, tuple(sorted((str(name), _key(one)) for name, one in value.items()))
    return type(value), value


def _distinct(values: list[Any], codes: npt.NDArray[np.int64]) -> Distinct:
    rows = np.flatnonzero(codes >= 0)
    first = np.zeros(len(values), np.int64)
    first[codes[rows][::-1]] = rows[::-1]  # of several, the last that is written stays
    counts = np.bincount(codes[rows], minlength=len(values))
    return Distinct(values, codes, first.tolist(), counts.tolist())
