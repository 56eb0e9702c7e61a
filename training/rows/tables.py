"""Rows of files by column, whatever the format: where all reading of data begins. Knows no labels."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.errors import DataError
from training.rows.arrow_file import read_arrow
from training.rows.conll_file import read_conll
from training.rows.csv_file import read_csv
from training.rows.json_file import read_json
from training.rows.opening import CONLL, FORMATS, format_of, plain_format
from training.rows.values import Distinct, Part, Values, distinct_values, part_of, plain_value, python_values
from training.rows.workbook import read_workbook

__all__ = ["FORMATS", "Distinct", "Table", "Values", "format_of", "read_batches", "read_table"]

_READERS: Mapping[str, Callable[[Path, int], Iterator[Part]]] = (
    dict.fromkeys((".csv", ".tsv"), read_csv)
    | dict.fromkeys((".jsonl", ".ndjson", ".json"), read_json)
    | dict.fromkeys((".parquet", ".arrow", ".feather"), read_arrow)
    | {".xlsx": read_workbook}
    | dict.fromkeys(CONLL, read_conll)
)
_MAX_PART_ROWS = 1 << 16


@dataclass(frozen=True)
class Table:
    """Rows of one split, by column.

    `numbers` [N] counts through all files; `files` are their names with the number before the first row.
    `notes` say what was understood beyond the plain, `class_names` are those of a file's metadata, by field.
    """

    source: str
    columns: Mapping[str, Values]
    numbers: npt.NDArray[np.int64]
    files: tuple[tuple[str, int], ...]
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], source: str = "rows") -> "Table":
        """Rows of the Python API; numpy's values become Python's. Raises DataError for another row."""
        found = []
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
                raise DataError(
                    f"{source}, row {number}: found {row!r:.60}; a row maps field names to values"
                )
            found.append((number, plain_value(row)))
        part = part_of(found)
        return cls(source, part.columns, np.asarray(part.numbers, np.int64), ((source, 0),))

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(self.numbers)

    def row_number(self, row: int) -> int:
        """Of a row from 0: JSON Lines' line, a spreadsheet's row (the header is 1, empty lines of CSV do not
        count), else the record from 1. It goes on through several files.
        """
        return int(self.numbers[row])

    def where(self, row: int) -> str:
        """File and number of a row, as messages say it."""
        number = self.row_number(row)
        name, before = self.files[bisect_left(self.files, number, key=lambda file: file[1]) - 1]
        return f"{name}, row {number - before}"

    def values(self, name: str) -> list[Any]:
        """Python values of a field; None where a row has none."""
        return python_values(self._column(name))

    def distinct(self, name: str) -> Distinct:
        """The different values of a field."""
        return distinct_values(self._column(name))

    def _column(self, name: str) -> Values:
        return self.columns[name] if name in self.columns else [None] * self.num_rows

    def joined(self, names: Sequence[str], name: str) -> "Table":
        """With a column `name` that has the values of several fields as a list; as it is for one field."""
        if len(names) == 1:
            return self
        rows = zip(*(self.values(field) for field in names), strict=True)
        return replace(self, columns={**self.columns, name: [list(row) for row in rows]})

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
    tables = list(_tables(paths, _MAX_PART_ROWS))
    names = dict.fromkeys(name for table in tables for name in table.columns)
    columns = {name: _joined([table for table in tables if table.num_rows] or tables, name) for name in names}
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    numbers = np.concatenate([table.numbers for table in tables])
    return replace(tables[-1], columns=columns, numbers=numbers, notes=notes)


def read_batches(paths: Sequence[Path], max_rows: int = 8192) -> Iterator[Table]:
    """In tables of at most `max_rows`; one without rows where there are none. Raises DataError."""
    table, given = None, False
    for table in _tables(paths, max_rows):
        if table.num_rows:
            given = True
            yield table
    if table is not None and not given:
        yield table


def _array(numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    if isinstance(numbers, range):  # numpy would ask it number by number
        return np.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int64)
    return np.asarray(numbers, np.int64)


def _tables(paths: Sequence[Path], max_rows: int) -> Iterator[Table]:
    """For each file a table without rows, then its rows."""
    source = paths[0].name
    if len(paths) > 1:
        source = f"{paths[0].parent.name}/{source} to {paths[-1].name} ({len(paths)} files)"
    files: tuple[tuple[str, int], ...] = ()
    first, before = None, 0
    for path in paths:
        files = (*files, (path.name, before))
        head = None
        for part in _READERS[plain_format(path)](path, max_rows):
            head, first = head or part, first or part
            _check_alike(files, first, head)
            numbers = _array(part.numbers) + files[-1][1]
            before = int(numbers[-1]) if len(numbers) else before
            yield Table(source, part.columns, numbers, files, head.notes, head.class_names)


def _check_alike(files: Sequence[tuple[str, int]], first: Part, head: Part) -> None:
    """Raises DataError where the last file has other columns or class names than the first."""
    name, other = files[-1][0], files[0][0]
    if different := sorted(set(first.columns) ^ set(head.columns)):
        raise DataError(f"{name}: of the columns {', '.join(different)}, {other} has others; make them alike")
    if first.class_names != head.class_names:
        raise DataError(f"{name}: its metadata has other class names than that of {other}; make them alike")


def _joined(tables: Sequence[Table], name: str) -> Values:
    """Arrow's column where all parts have one type; else Python values, which keep theirs."""
    arrays: list[Any] = [table.columns.get(name) for table in tables]
    if all(isinstance(array, pa.ChunkedArray) and array.type == arrays[0].type for array in arrays):
        return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], arrays[0].type)
    return [value for table in tables for value in table.values(name)]
