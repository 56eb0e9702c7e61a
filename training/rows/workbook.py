"""Excel's .xlsx: the first sheet, with the cells' own types; a row's number is the one that Excel shows."""

import warnings
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.rows.opening import named_columns, open_bytes, refusing
from training.rows.values import Part


def _value(cell: Any) -> Any:
    """Without errors such as #N/A, and without the midnight of a date."""
    value = None if cell.data_type == "e" else cell.value
    if isinstance(value, datetime) and value.time() == time():
        return value.date()
    return value


def read_workbook(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows; an empty cell is no value. Raises DataError."""
    import openpyxl  # only this format needs it

    with refusing(path, "an Excel workbook"), open_bytes(path) as file, warnings.catch_warnings():
        try:  # openpyxl raises whatever its zip and XML readers do, and warns of decorations that it drops
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = enumerate(book.worksheets[0].iter_rows(), 1)
            rows = [
                (number, tuple(map(_value, cells)))
                for number, cells in sheet
                if any(cell.value is not None for cell in cells)
            ]
        except Exception as error:
            raise OSError(str(error)) from None
    if not rows:
        raise DataError(f"{path.name}: the first sheet is empty; a header is expected")
    gaps = [None] * max(len(cells) for _, cells in rows)
    names, notes = named_columns(path, (*rows[0][1], *gaps[len(rows[0][1]) :]))
    if len(book.sheetnames) > 1:
        notes += (f"{path.name}: of {len(book.sheetnames)} sheets only {book.sheetnames[0]} is read",)
    yield Part({name: [] for name in names.values()}, (), notes)
    for start in range(1, len(rows), max_rows):
        chunk = rows[start : start + max_rows]
        columns = {name: [[*cells, *gaps][place] for _, cells in chunk] for place, name in names.items()}
        yield Part(columns, [number for number, _ in chunk])
