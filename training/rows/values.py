"""A column, and its values as Python has them: exact types, one spelling of a number whatever its width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Values: TypeAlias = pa.ChunkedArray | list[Any]
"""A column: Arrow where the file has types or texts of its own, else (JSON, workbooks, the API) Python values."""


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


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without a dictionary."""
    while pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def python_values(column: Values) -> list[Any]:
    """Python values; None for null and NaN. Narrow floats have their shortest decimal: 0.1, not 0.10000000149."""
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
    """A value of a nested or floating Arrow type."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return float(str(kind.to_pandas_dtype()(value)))
    if pa.types.is_struct(kind):
        return {
            kind.field(i).name: _exact(value[kind.field(i).name], kind.field(i).type)
            for i in range(kind.num_fields)
        }
    if hasattr(kind, "value_type") and isinstance(value, list):
        return [_exact(one, kind.value_type) for one in value]
    return value


def plain_value(value: Any) -> Any:
    """A value of the Python API: numpy's scalars and arrays, tuples and Arrow's scalars become Python's own."""
    if isinstance(value, pa.Scalar):
        return python_values(plain_column(pa.chunked_array([pa.array([value])])))[0]
    if isinstance(value, np.floating) and value.itemsize < 8:
        value = float(str(value))
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, Mapping):
        return {key: plain_value(one) for key, one in value.items()}
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return plain_value(value[()])
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain_value(one) for one in value]
    return value


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
        if value is not None and value == value:  # noqa: PLR0124 - NaN
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
