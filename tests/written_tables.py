"""The same rows in every format that is read, written by the libraries that people write them with."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import openpyxl
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import ipc, parquet

Writer: TypeAlias = Callable[["Sheet"], bytes]


@dataclass(frozen=True)
class Sheet:
    """Rows of one split, by column.

    `types` are Arrow's where it should not choose, `print_list` makes a cell of a list. `class_names` are the
    hub's: Arrow files have numbers and these in the metadata, all others the names in the rows.
    """

    columns: Mapping[str, Sequence[Any]]
    types: Mapping[str, Any]
    print_list: Callable[[Sequence[Any]], str] = str
    class_names: tuple[str, ...] | None = None
    label_field: str = "label"

    @property
    def named(self) -> dict[str, list[Any]]:
        """The columns with class names in place of the hub's numbers."""
        columns = {name: list(values) for name, values in self.columns.items()}
        if self.class_names is not None:
            columns[self.label_field] = [self._name(value) for value in columns[self.label_field]]
        return columns

    def cells(self, text: Callable[[Any], Any]) -> list[list[Any]]:
        """Rows of cells, lists printed; the header first."""
        named = self.named
        columns = [[self._cell(value, text) for value in named[name]] for name in named]
        return [list(named), *map(list, zip(*columns, strict=True))]

    def table(self, *, lists: bool = True) -> Any:
        """Arrow's; without `lists` these are printed, as Arrow's CSV writer has none."""
        columns = self.columns if lists else self.named
        arrays = {name: self._array(name, values, lists=lists) for name, values in columns.items()}
        table = pa.table(arrays)
        if self.class_names is None or not lists:
            return table
        feature = {"names": list(self.class_names), "_type": "ClassLabel"}
        info = json.dumps({"info": {"features": {self.label_field: feature}}})
        return table.replace_schema_metadata({"huggingface": info})

    def _array(self, name: str, values: Sequence[Any], *, lists: bool) -> Any:
        kind = self.types.get(name)
        if not lists and any(isinstance(value, list) for value in values):
            values, kind = [self._cell(value, str) for value in values], None
        elif not lists and self.class_names is not None and name == self.label_field:
            kind = None
        array = pa.array(values, kind and _plain(kind))
        return array if kind is None or kind == array.type else array.dictionary_encode()

    def _name(self, value: Any) -> Any:
        assert self.class_names is not None
        return None if value is None else self.class_names[value]

    def _cell(self, value: Any, text: Callable[[Any], Any]) -> Any:
        return self.print_list(value) if isinstance(value, list) else text(value)


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _csv(separator: str = ",", start: str = "", quoting: int = csv.QUOTE_MINIMAL) -> Writer:
    def write(sheet: Sheet) -> bytes:
        out = io.StringIO(start, newline="")
        out.seek(0, io.SEEK_END)
        rows = sheet.cells(lambda value: "" if value is None else value)
        csv.writer(out, delimiter=separator, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
        return out.getvalue().encode()

    return write


def _arrow_csv(sheet: Sheet) -> bytes:
    table = sheet.table(lists=False)
    for place, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) or pa.types.is_dictionary(field.type):
            plain = table.column(place).cast(
                pa.string() if pa.types.is_decimal(field.type) else _plain(field.type)
            )
            table = table.set_column(place, field.name, plain)
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(table, sink)
    return bytes(sink.getvalue())


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value


def _json_rows(sheet: Sheet) -> list[dict[str, Any]]:
    named = sheet.named
    rows = zip(*named.values(), strict=True)
    return [dict(zip(named, map(_json_value, row), strict=True)) for row in rows]


def _json_lines(sheet: Sheet) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _json_rows(sheet)).encode()


def _json_lines_with_gaps(sheet: Sheet) -> bytes:
    """Without the fields that have no value, and without escapes."""
    rows = [{name: value for name, value in row.items() if value is not None} for row in _json_rows(sheet)]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def _json_array(sheet: Sheet) -> bytes:
    return json.dumps(_json_rows(sheet), indent=1).encode()


def _parquet(sheet: Sheet) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(sheet.table(), sink, row_group_size=3)
    return bytes(sink.getvalue())


def _arrow_stream(sheet: Sheet) -> bytes:
    sink, table = pa.BufferOutputStream(), sheet.table()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


def _arrow_file(sheet: Sheet) -> bytes:
    sink, table = pa.BufferOutputStream(), sheet.table()
    with ipc.new_file(sink, table.schema, options=ipc.IpcWriteOptions(unify_dictionaries=True)) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


def _workbook(sheet: Sheet) -> bytes:
    book = openpyxl.Workbook()
    for row, cells in enumerate(sheet.cells(lambda value: value), 1):
        for column, value in enumerate(cells, 1):
            cell = book.active.cell(row, column)
            cell.value = value.item() if isinstance(value, np.generic) else value
            if isinstance(value, str):
                cell.data_type = "s"  # "=a" is no formula, "#N/A" no error
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _packed(write: Writer, codec: str) -> Writer:
    def packed(sheet: Sheet) -> bytes:
        data = write(sheet)
        return gzip.compress(data, 1) if codec == "gzip" else bytes(pa.compress(data, codec, asbytes=True))

    return packed


@dataclass(frozen=True)
class Format:
    """`ending` is the file's, `write` makes its bytes; workbooks cannot hold control characters."""

    name: str
    ending: str
    write: Writer
    takes_controls: bool = True

    def save(self, folder: Path, split: str, sheet: Sheet) -> None:
        """Write one split."""
        (folder / f"{split}{self.ending}").write_bytes(self.write(sheet))


FORMATS = (
    Format("JSON Lines", ".jsonl", _json_lines),
    Format("JSON Lines with gaps", ".ndjson", _json_lines_with_gaps),
    Format("JSON array", ".json", _json_array),
    Format("CSV by Python", ".csv", _csv()),
    Format("CSV by Arrow", ".csv", _arrow_csv),
    Format("CSV of Excel", ".csv", _csv(";", "\ufeff", csv.QUOTE_NONNUMERIC)),
    Format("CSV by |", ".csv", _csv("|")),
    Format("TSV", ".tsv", _csv("\t")),
    Format("Parquet", ".parquet", _parquet),
    Format("Arrow stream", ".arrow", _arrow_stream),
    Format("Arrow file", ".arrow", _arrow_file),
    Format("packed JSON Lines", ".jsonl.gz", _packed(_json_lines, "gzip")),
    Format("packed CSV", ".csv.zst", _packed(_csv(), "zstd")),
    Format("packed Parquet", ".parquet.gz", _packed(_parquet, "gzip")),
)
WORKBOOK = Format("workbook", ".xlsx", _workbook, takes_controls=False)
