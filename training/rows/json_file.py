"""JSON: one object a line, or one array of objects; exact values, nothing inferred, NaN is none."""

import io
import json
import re
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.rows.opening import check_utf8, open_bytes, plain_format, refusing
from training.rows.values import Part, part_of

_Row = dict[str, Any]
_GAP = re.compile(r"\s*([,\]]?)\s*")


def read_json(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows; a row's number is its line, or its place in the array from 1.

    Raises:
        DataError: what is no object of its own, with the row.
    """
    yield Part({})
    with refusing(path), open_bytes(path) as file:
        rows = _rows(path, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape"))
        while chunk := list(islice(rows, max_rows)):
            yield part_of(chunk)


def _rows(path: Path, lines: io.TextIOWrapper) -> Iterator[tuple[int, _Row]]:
    num_rows = 0
    last: _Row = {}
    for number, line in enumerate(lines, 1):
        if not num_rows and line.lstrip().startswith("["):
            yield from _array(path, line + lines.read())
            return
        if text := line.strip():
            try:
                row, end = _record(path, number, text, 0)
                if end < len(text):
                    raise _refused(path, number, f"text after the object: {text[end : end + 40]!r}")
            except DataError:
                if not num_rows:
                    _refuse_one_object(path, line + lines.read())
                raise
            num_rows, last = num_rows + 1, row
            yield number, row
    if num_rows == 1:
        _refuse_columns(path, last)


def _array(path: Path, text: str) -> Iterator[tuple[int, _Row]]:
    at = text.index("[") + 1
    for number in count(1):
        gap = _GAP.match(text, at)
        assert gap is not None, "the pattern fits everything: this is a bug"
        if gap[1] == "]":
            if gap.end() < len(text):
                raise _refused(path, number, f"text after the array: {text[gap.end() :][:40]!r}")
            return
        if (gap[1] == ",") == (number == 1):
            raise _refused(path, number, f"expected , or ], found {text[gap.start() :][:40]!r}")
        row, at = _record(path, number, text, gap.end())
        yield number, row


def each_key_once(pairs: list[tuple[str, Any]]) -> _Row:
    """An object of JSON. Raises ValueError for a key that stands there twice, of which one would be lost."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} twice in one object")
    return row


_DECODER = json.JSONDecoder(
    object_pairs_hook=each_key_once, parse_constant=lambda name: None if name == "NaN" else float(name)
)


def _record(path: Path, number: int, text: str, start: int) -> tuple[_Row, int]:
    """The object at `start`, and where it ends."""
    try:
        row, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        check_utf8(path, number, text[start:].split("\n", 1)[0])
        raise _refused(path, number, str(error)) from None
    if not text.isascii():
        check_utf8(path, number, text[start:end])
    if not isinstance(row, dict):
        found = type(row).__name__
        raise DataError(f"{path.name}, row {number}: found {found}, expected an object of fields")
    return row, end


def _refused(path: Path, number: int, why: str) -> DataError:
    expected = "one object a line, or one array of objects, is expected"
    return DataError(f"{path.name}, row {number}: not JSON ({why}); {expected}")


def _refuse_one_object(path: Path, text: str) -> None:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(whole, dict):
        _refuse_columns(path, whole)
        raise DataError(f"{path.name}: one object over several lines; put it on one line, or write an array")


def _are_rows(values: list[Any]) -> bool:
    return len(values) > 1 and all(isinstance(value, dict) and value for value in values)


def _refuse_columns(path: Path, row: _Row) -> None:
    """A table by columns is one object of objects, or of lists, of all rows.

    In a file of lines an object is a row, whatever its fields hold (the entities of a text are objects).
    """
    wrapped = [name for name, rows in row.items() if isinstance(rows, list) and _are_rows(rows)]
    if wrapped and plain_format(path) == ".json":
        raise DataError(
            f"{path.name}: the rows stand under {wrapped[0]!r}; write that list alone, without the rest"
        )
    if row and any(all(isinstance(value, kind) for value in row.values()) for kind in (dict, list)):
        fields = ", ".join(list(row)[:5])
        raise DataError(
            f'{path.name}: one object of columns ({fields}), not rows; in pandas, to_json(orient="records")'
        )
