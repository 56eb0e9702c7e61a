"""How rows are written: as bytes that are only ever appended, so that a part can be cut and gone on with."""

from __future__ import annotations

import base64
import csv
import datetime
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet

from training.rows.values import python_values
from trunkline.errors import Invalid

_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 1 << 26


class Format(ABC):
    """Rows with these columns (name -> Arrow type, None: values of several types, which become text)."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = columns

    @abstractmethod
    def head(self) -> bytes:
        """What stands before the rows."""

    @abstractmethod
    def rows(self, values: Mapping[str, Any]) -> bytes:
        """Rows whose columns are Python values or Arrow's; one that is missing has none."""

    def finish(self, part: Path) -> Path:
        """The whole file, out of all bytes."""
        return part


class Csv(Format):
    """UTF-8 with commas; nothing for no value, JSON for lists and objects."""

    def head(self) -> bytes:
        return _csv([[*self.columns]])

    def rows(self, values: Mapping[str, Any]) -> bytes:
        return _csv(zip(*self._cells(values), strict=True))

    def _cells(self, values: Mapping[str, Any]) -> list[list[str]]:
        return [[_cell(value) for value in column] for column in _python(self.columns, values)]


class JsonLines(Format):
    """One object a line."""

    def head(self) -> bytes:
        return b""

    def rows(self, values: Mapping[str, Any]) -> bytes:
        names = [*self.columns]
        rows = zip(*_python(self.columns, values), strict=True)
        return b"".join(_json_line(dict(zip(names, row, strict=True))) for row in rows)


class Parquet(Format):
    """Arrow's stream while it grows, Parquet in the end."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        super().__init__(columns)
        self._schema = pa.schema(
            [(name, pa.string() if kind is None else kind) for name, kind in columns.items()]
        )

    def head(self) -> bytes:
        return bytes(self._schema.serialize())

    def rows(self, values: Mapping[str, Any]) -> bytes:
        lengths = [len(column) for column in values.values()]
        arrays = [_array(values.get(name, [None] * lengths[0]), kind) for name, kind in self.columns.items()]
        return bytes(pa.RecordBatch.from_arrays(arrays, schema=self._schema).serialize())

    def finish(self, part: Path) -> Path:
        whole = part.with_name(f"{part.name}.whole")
        with parquet.ParquetWriter(whole, self._schema) as writer:
            for group in _groups(part):
                writer.write_table(group)
        with whole.open("rb") as file:
            os.fsync(file.fileno())
        return whole


FORMATS: Mapping[str, type[Format]] = {".csv": Csv, ".jsonl": JsonLines, ".parquet": Parquet}


def format_for(out: Path) -> type[Format]:
    """By the ending. Raises Invalid for one that is not written."""
    found = FORMATS.get(out.suffix.lower())
    if found is None:
        raise Invalid(
            f"{out.name}: the ending of --out is none of {', '.join(FORMATS)}; give it the one of the format "
            "that you want"
        )
    return found


def _python(columns: Mapping[str, Any], values: Mapping[str, Any]) -> list[list[Any]]:
    rows = max((len(column) for column in values.values()), default=0)
    return [python_values(values[name]) if name in values else [None] * rows for name in columns]


def _csv(rows: Any) -> bytes:
    """Lines end with a line feed alone; a carriage return within a cell is quoted, as any line end."""
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return "".join(f"{line[:-2]}\n" for line in lines).encode()


class _Lines(list[str]):
    """What `csv` writes to: it writes a row at a time."""

    write = list.append


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else as_text(value)


def as_text(value: Any) -> str:
    """A text as it is, numbers in their shortest form, anything else as JSON. No lone surrogates."""
    if not isinstance(value, str):
        value = str(_plain(value)) if isinstance(_plain(value), str) else _json(value)
    return _sound(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON lacks: times by ISO 8601, bytes in base 64; anything else by its own text."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, bool | int | float | list | dict) else str(value)


def _json_line(row: dict[str, Any]) -> bytes:
    """UTF-8; lone surrogates, which it cannot hold, as escapes."""
    try:
        return f"{_json(row)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(row, default=_plain)}\n".encode()


def _sound(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _array(values: Any, kind: Any) -> Any:
    if isinstance(values, pa.ChunkedArray):
        if kind is not None and values.type.equals(kind):
            return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
        values = python_values(values)
    if kind is None:
        return pa.array([None if one is None else as_text(one) for one in values], pa.string())
    if pa.types.is_string(kind):
        return pa.array([None if one is None else _sound(one) for one in values], kind)
    if values and any(isinstance(one, dict) for one in values) and pa.types.is_list(kind):
        values = [one if one is None else _entries(one) for one in values]
    return pa.array(values, kind)


def _entries(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"label": _sound(label), "score": score} for label, score in scores.items()]


def _groups(part: Path) -> Iterator[Any]:
    """Tables of about as many rows as a group of Parquet has, fewer where these are long."""
    with pa.OSFile(str(part)) as file:
        batches: list[Any] = []
        for batch in ipc.open_stream(file):
            batches.append(batch)
            if _are_enough(batches):
                yield pa.Table.from_batches(batches)
                batches = []
        if batches:
            yield pa.Table.from_batches(batches)


def _are_enough(batches: Sequence[Any]) -> bool:
    return bool(
        sum(batch.num_rows for batch in batches) >= _GROUP_ROWS
        or sum(batch.nbytes for batch in batches) >= _GROUP_BYTES
    )
