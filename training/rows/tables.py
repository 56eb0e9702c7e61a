"""Rows of files by column, whatever the format; every reader of data begins here. Knows no labels, no tasks."""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.errors import DataError
from training.rows.arrow_file import read_arrow
from training.rows.csv_file import read_csv
from training.rows.json_file import read_json
from training.rows.opening import FORMATS, format_of, plain_format
from training.rows.values import Distinct, Part, Values, distinct_values, plain_value, python_values
from training.rows.workbook import read_workbook

__all__ = ["FORMATS", "Distinct", "Table", "Values", "format_of", "read_batches", "read_table"]

_READERS: Mapping[str, Callable[[Path, int], Iterator[Part]]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".parquet": read_arrow,
    ".arrow": read_arrow,
    ".feather": read_arrow,
    ".xlsx": read_workbook,
}
_MAX_PART_ROWS = 1 << 16


@dataclass(frozen=True)
class Table:
    """Rows of one split, by column.

    `numbers` [N] counts through all files; `files` names each with the number before its first row. `notes` say
    what was understood beyond the plain, `class_names` what a file's metadata calls the classes of a field.
    """

    source: str
    columns: Mapping[str, Values]
    numbers: npt.NDArray[np.int64]
    files: tuple[tuple[str, int], ...]
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], source: str = "rows") -> "Table":
        """Rows of the Python API; numpy's values become Python's. Raises DataError for what is no mapping."""
        found = []
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                what = type(row).__name__ if not isinstance(row, Mapping) else "a field whose name is no text"
                raise DataError(f"{source}, row {number}: found {what}, expected a mapping of field names")
            found.append({name: plain_value(value) for name, value in row.items()})
        names = dict.fromkeys(name for row in found for name in row)
        columns: dict[str, Values] = {name: [row.get(name) for row in found] for name in names}
        return cls(source, columns, np.arange(1, len(found) + 1), ((source, 0),))

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(self.numbers)

    def row_number(self, row: int) -> int:
        """The number of a row (from 0): the line of JSON Lines, a spreadsheet's row (the header is 1, empty lines
        of CSV do not count), else the record from 1; it goes on through several files.
        """
        return int(self.numbers[row])

    def where(self, row: int) -> str:
        """File and number of a row, as messages say it."""
        number = self.row_number(row)
        name, before = self.files[bisect_left(self.files, number, key=lambda file: file[1]) - 1]
        return f"{name}, row {number - before}"

    def values(self, name: str) -> list[Any]:
        """Python values of a field; None where a row has none."""
        return python_values(self.columns[name]) if name in self.columns else [None] * self.num_rows

    def distinct(self, name: str) -> Distinct:
        """The different values of a field."""
        return distinct_values(self.columns.get(name, [None] * self.num_rows))

    def take(self, rows: Sequence[int]) -> "Table":
        """Some rows, in the order given; their numbers stay."""
        places = np.asarray(rows, np.int64)
        columns: dict[str, Values] = {
            name: [column[row] for row in rows] if isinstance(column, list) else column.take(pa.array(places))
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, numbers=self.numbers[places])


def read_table(paths: Sequence[Path]) -> Table:
    """All rows of the files, in order.

    Raises:
        DataError: what cannot be read, or not together; with file and row.
    """
    return _joined(list(_tables(paths, _MAX_PART_ROWS)))


def read_batches(paths: Sequence[Path], max_rows: int = 8192) -> Iterator[Table]:
    """The same rows in tables of at most `max_rows`; one without rows where there are none. Raises DataError."""
    first, num_rows = None, 0
    for table in _tables(paths, max_rows):
        first = first or table
        num_rows += table.num_rows
        if table.num_rows:
            yield table
    if first is not None and not num_rows:
        yield first


def _tables(paths: Sequence[Path], max_rows: int) -> Iterator[Table]:
    """For each file a table without rows, then its rows."""
    source, before = _source(paths), 0
    files: tuple[tuple[str, int], ...] = ()
    heads: list[Part] = []
    for path in paths:
        files = (*files, (path.name, before))
        last = before
        parts = _READERS[plain_format(path)](path, max_rows)
        heads.append(head := next(parts))
        _check_alike(paths, heads)
        for part in chain([head], parts):
            numbers = np.asarray(part.numbers, np.int64) + before
            last = int(numbers[-1]) if len(numbers) else last
            yield Table(source, part.columns, numbers, files, head.notes, head.class_names)
        before = last


def _source(paths: Sequence[Path]) -> str:
    if len(paths) == 1:
        return paths[0].name
    shared = os.path.commonprefix([path.name for path in paths])
    return f"{paths[0].parent.name}/{shared}*{format_of(paths[0])} ({len(paths)} files)"


def _check_alike(paths: Sequence[Path], heads: Sequence[Part]) -> None:
    """Raises DataError where the columns or class names of the last file are not those of the first."""
    first, last, name = heads[0], heads[-1], paths[len(heads) - 1].name
    different = sorted(set(first.columns) ^ set(last.columns))
    if different:
        raise DataError(
            f"{name}: the columns are {', '.join(last.columns)}, those of {paths[0].name} are "
            f"{', '.join(first.columns)}; files of one split have the same, {', '.join(different)} differs"
        )
    if first.class_names != last.class_names:
        raise DataError(
            f"{name}: the class names in its metadata are not those of {paths[0].name}; write both alike"
        )


def _joined(tables: Sequence[Table]) -> Table:
    names = dict.fromkeys(name for table in tables for name in table.columns)
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    columns = {name: _column(name, tables) for name in names}
    numbers = np.concatenate([table.numbers for table in tables])
    return replace(tables[-1], columns=columns, numbers=numbers, notes=notes)


def _column(name: str, tables: Sequence[Table]) -> Values:
    """Arrow's where all parts have one type; else Python values, which keep theirs."""
    columns = [table.columns.get(name) for table in tables if table.num_rows] or [tables[0].columns[name]]
    arrays: list[Any] = [column for column in columns if isinstance(column, pa.ChunkedArray)]
    if len(arrays) == len(columns) and len({str(array.type) for array in arrays}) == 1:
        return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], arrays[0].type)
    return [value for table in tables for value in table.values(name)]
