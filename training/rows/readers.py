"""Rows out of one file: JSON Lines (plain or .gz), CSV or Parquet. Knows formats and row numbers, not tasks.

A row number is what an editor shows: the line for JSON Lines and CSV, the record (from 1) for Parquet.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from training.errors import DataError

Row = dict[str, Any]
FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")


def format_of(path: Path) -> str | None:
    """The format by the name's ending, or None."""
    return next(
        (ending for ending in sorted(FORMATS, key=len, reverse=True) if path.name.endswith(ending)), None
    )


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Row number and fields of each row, in file order.

    Raises:
        DataError: no such file, an unknown ending, bytes that are not the format; with file and row.
    """
    ending = format_of(path)
    if ending is None:
        raise DataError(
            f"{path.name}: the ending is none of {', '.join(FORMATS)}; convert or rename the file"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if ending == ".parquet":
        yield from _read_parquet(path)
    elif ending.startswith(".csv"):
        yield from _read_csv(path)
    else:
        yield from _read_json_lines(path)


def _open_text(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path.name}, row {number}: not JSON ({error}); one object per line is expected"
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path.name}, row {number}: found {type(row).__name__}, expected an object of fields"
            )
        yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, 1):
                yield number, line
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}, after row {number}: not UTF-8 ({error.reason}); save it as UTF-8"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name}, after row {number}: cannot be read ({error}); write the file again"
        ) from None


def _read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    header: list[str] | None = None
    start = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path.name}, row {start}: not CSV ({error}); quote cells with commas or quotes"
            ) from None
        if cells is None:
            return
        number, start = start, reader.line_num + 1
        if header is None:
            header = _header(path, cells)
        elif cells:
            yield number, _csv_row(path, number, header, cells)


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) != len(names) or not all(names):
        raise DataError(f"{path.name}, row 1: the header is {names}; every column needs a name of its own")
    return names


def _csv_row(path: Path, number: int, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise DataError(
            f"{path.name}, row {number}: found {len(cells)} cells, the header has {len(header)} "
            f"({', '.join(header)}); quote cells that contain commas"
        )
    return dict(zip(header, cells, strict=True))


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow  # only this format needs it
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield number, dict(row)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path.name}, after row {number}: not Parquet ({reason})") from None
