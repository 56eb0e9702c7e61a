"""JSON: a line for each object, or one array of objects; exact values, nothing inferred."""

import io
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.rows.opening import check_marks, check_utf8, open_bytes, refusing
from training.rows.values import Part

_WORD = re.compile(r"\S|$")


def read_json(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows. Raises DataError with the row: the line, or the record of an array."""
    yield Part({})
    with refusing(path), open_bytes(path) as file:
        check_marks(path, file.read(64))
    with refusing(path), open_bytes(path) as file:
        rows = _rows(path, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape"))
        while chunk := list(islice(rows, max_rows)):
            names = dict.fromkeys(name for _, row in chunk for name in row)
            columns = {name: [row.get(name) for _, row in chunk] for name in names}
            yield Part(columns, [number for number, _ in chunk])


def _rows(path: Path, lines: io.TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    count, row = 0, dict[str, Any]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not count and line.lstrip().startswith("["):
            yield from _array(path, line + lines.read())
            return
        try:
            row, end = _record(path, number, line, _skip(line, 0))
            if line[end:].strip():
                raise _refused(path, number, f"text after the object: {line[end:].strip()[:40]!r}")
        except DataError:
            if not count:
                _refuse_one_object(path, line + lines.read())
            raise
        count += 1
        yield number, row
    if count == 1:
        _refuse_columns(path, row)


def _array(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    at = _skip(text, text.index("[") + 1)
    number = 0
    while text[at : at + 1] != "]" or number:
        number += 1
        row, at = _record(path, number, text, at)
        yield number, row
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise _refused(path, number, f"expected , or ] after it, found {text[at : at + 20]!r}")
        at = _skip(text, at + 1)
    if text[at + 1 :].strip():
        raise _refused(path, number, f"text after the array: {text[at + 1 :].strip()[:40]!r}")


def _skip(text: str, at: int) -> int:
    """Where the next thing stands that is no white space."""
    found = _WORD.search(text, at)
    return found.start() if found else len(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} twice in one object")
    return found


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant)


def _record(path: Path, number: int, text: str, start: int) -> tuple[dict[str, Any], int]:
    """The object at `start` and where it ends."""
    try:
        row, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        check_utf8(path, number, text[start : start + 10_000])
        raise _refused(path, number, str(error)) from None
    if not text.isascii():
        check_utf8(path, number, text[start:end])
    if not isinstance(row, dict):
        raise DataError(
            f"{path.name}, row {number}: found {type(row).__name__}, expected an object of fields"
        )
    return row, end


def _refused(path: Path, number: int, why: str) -> DataError:
    return DataError(
        f"{path.name}, row {number}: not JSON ({why}); one object a line, or one array of objects, is expected"
    )


def _refuse_one_object(path: Path, text: str) -> None:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(whole, dict):
        _refuse_columns(path, whole)
        raise DataError(
            f"{path.name}: one object over several lines; write one object a line, or [ ] around it"
        )


def _refuse_columns(path: Path, row: dict[str, Any]) -> None:
    """A table by columns is one object whose values are objects (or lists) of all rows."""
    if row and any(all(isinstance(value, kind) for value in row.values()) for kind in (dict, list)):
        raise DataError(
            f"{path.name}: one object of columns ({', '.join(list(row)[:5])}), not rows; write rows, as "
            'pandas does with to_json(orient="records", lines=True)'
        )
