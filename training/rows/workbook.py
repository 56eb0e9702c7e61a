"""Excel's .xlsx: the first sheet, with the cells' own types; a row's number is the one that Excel shows."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.rows.opening import open_bytes, refusing
from training.rows.values import Part


def read_workbook(path: Path, max_rows: int) -> Iterator[Part]:
    """One part. An empty cell is no value. Raises DataError."""
    import openpyxl  # only this format needs it

    del max_rows  # a workbook has at most a million rows
    with refusing(path, "an Excel workbook"), open_bytes(path) as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            rows = [
                (number, cells)
                for number, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), 1)
                if any(cell is not None for cell in cells)
            ]
        except (zipfile.BadZipFile, KeyError, IndexError, ValueError, TypeError) as error:
            raise OSError(str(error)) from None
    if not rows:
        raise DataError(f"{path.name}: the first sheet is empty; a header is expected")
    names = _header(path, rows[0])
    sheets = book.sheetnames
    notes = [f"{path.name}: of {len(sheets)} sheets, {sheets[0]} is read"] * (len(sheets) > 1)
    if len(names) < max(len(cells) for _, cells in rows):
        notes.append(f"{path.name}: columns without a name ignored")
    yield Part({name: [] for name in names.values()}, (), tuple(notes))
    columns = {name: [_cell(cells, place) for _, cells in rows[1:]] for place, name in names.items()}
    yield Part(columns, [number for number, _ in rows[1:]])


def _cell(cells: tuple[Any, ...], place: int) -> Any:
    return cells[place] if place < len(cells) else None


def _header(path: Path, row: tuple[int, tuple[Any, ...]]) -> dict[int, str]:
    """Names by place. Raises DataError for a name twice, or none."""
    names = {
        place: str(cell).strip()
        for place, cell in enumerate(row[1])
        if cell is not None and str(cell).strip()
    }
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice or not names:
        what = f"several columns have the name {', '.join(twice)}" if twice else "no column has a name"
        raise DataError(
            f"{path.name}, row {row[0]}: {what}; every column that is read needs a name of its own"
        )
    return names
