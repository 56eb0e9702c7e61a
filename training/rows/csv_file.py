"""CSV and TSV: every cell is text. pyarrow reads; what it would take leniently is found first, and refused by row."""

import csv
import io
import re
import sys
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from training.errors import DataError
from training.rows.opening import check_marks, check_utf8, open_bytes, plain_format, refusing
from training.rows.values import Part

SEPARATORS: Mapping[str, str] = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_BLOCK_BYTES = 1 << 20
_MAX_BLOCK_BYTES = 1 << 30
_SAMPLE_ROWS = 200
_QUOTE, _LF, _CR = b'"\n\r'
_SAID = re.compile(r'"?sep=(.)"?\r?\n')
"""The first line with which Excel says its separator."""


@dataclass(frozen=True)
class _Layout:
    """How a file is written: `start` is the byte where the rows begin, after the header."""

    path: Path
    separator: str
    header: list[str]
    first_line: int
    start: int
    quoting: bool = True
    several_lines: bool = False

    @property
    def names(self) -> dict[int, str]:
        """The columns that have a name, by place."""
        return {place: name for place, name in enumerate(self.header) if name}


def read_csv(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows. The header is row 1, and empty lines do not count.

    Raises:
        DataError: not UTF-8, quotes that close nothing, cells that are not as many as the header's; with the row.
    """
    with refusing(path):
        layout, notes = _checked(_layout(path))
        yield Part({name: _texts([]) for name in layout.names.values()}, (), notes)
        done = 1
        for batch in _batches(layout):
            for start in range(0, batch.num_rows, max_rows):
                part = batch.slice(start, max_rows)
                columns = (pa.chunked_array([column]) for column in part.columns)
                yield Part(
                    dict(zip(layout.names.values(), columns, strict=True)),
                    range(done + 1, done + part.num_rows + 1),
                )
                done += part.num_rows


def _texts(values: list[str]) -> Any:
    return pa.chunked_array([pa.array(values, pa.string())])


def _layout(path: Path) -> _Layout:
    with open_bytes(path) as file:
        block = file.read(_BLOCK_BYTES)
    check_marks(path, block)
    mark = len(BOM_UTF8) * block.startswith(BOM_UTF8)
    text = block[mark:].decode("utf-8", "surrogateescape")
    said = _SAID.match(text)
    first_line = len(said.group().encode()) if said else 0
    text = text[said.end() :] if said else text
    separator = said.group(1) if said else _separator(path, text, whole=len(block) < _BLOCK_BYTES)
    lines = io.StringIO(text, newline="")
    header = next((cells for cells in _records(lines, separator) if cells), None)
    if header is None:
        raise DataError(f"{path.name}: the file is empty; a header is expected")
    start = len(text[: lines.tell()].encode("utf-8", "surrogateescape")) + mark + first_line
    names = [name.strip() for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice or not any(names):
        what = f"several columns have the name {', '.join(twice)}" if twice else "no column has a name"
        raise DataError(f"{path.name}, row 1: {what}; every column that is read needs a name of its own")
    return _Layout(path, separator, names, mark + first_line, start)


def _records(lines: Any, separator: str, strict: bool = False) -> Any:
    csv.field_size_limit(
        sys.maxsize
    )  # a cell has any length; the limit is the process's, there is no other switch
    return csv.reader(lines, delimiter=separator, strict=strict)


def default_separator(path: Path) -> str:
    return "\t" if plain_format(path) == ".tsv" else ","


def _separator(path: Path, text: str, whole: bool) -> str:
    """The one under which header and rows have the same number of cells, which is at least two."""
    shares, widths = {}, {}
    for separator in SEPARATORS:
        rows = list(islice(filter(None, _records(io.StringIO(text, newline=""), separator)), _SAMPLE_ROWS))
        if rows and len(rows[0]) > 1:
            sample = rows[1:] if whole or len(rows) == _SAMPLE_ROWS else rows[1:-1]
            widths[separator] = len(rows[0])
            shares[separator] = sum(len(row) == len(rows[0]) for row in sample) / max(1, len(sample))
    default = default_separator(path)
    best = [separator for separator in shares if shares[separator] == max(shares.values())]
    if not best or (default == "\t" and default in best):
        return default
    if len(best) > 1 and shares[best[0]] == 1:
        both = " and by ".join(SEPARATORS[separator] for separator in best)
        raise DataError(
            f"{path.name}: the columns can be separated by {both}; quote the cells that hold either"
        )
    return max(best, key=lambda separator: widths[separator])


def _checked(layout: _Layout) -> tuple[_Layout, tuple[str, ...]]:
    """The layout with its quotes understood, and what is to be told of it."""
    name, notes = layout.path.name, []
    quotes, regular, several = _scan(layout)
    unquoted = replace(layout, quoting=False)
    if quotes and (several or not regular) and _lines_agree(unquoted):
        if layout.separator == "\t":
            notes.append(f"{name}: quotes are part of the texts: every line by itself has all cells")
            quotes, regular = False, True
        elif regular:
            notes.append(f"{name}: quoted cells hold line breaks, though every line by itself has all cells")
    several = several if regular else _judge(layout)
    unnamed = len(layout.header) - len(layout.names)
    if layout.separator != default_separator(layout.path):
        notes.append(f"{name}: columns are separated by {SEPARATORS.get(layout.separator, layout.separator)}")
    if unnamed:
        notes.append(f"{name}: {unnamed} column{'s' * (unnamed > 1)} without a name ignored")
    return replace(layout, quoting=quotes, several_lines=several), tuple(notes)


def _scan(layout: _Layout) -> tuple[bool, bool, bool]:
    """Whether there are quotes; whether all is UTF-8 and quoted regularly; whether cells hold line breaks.

    Regular (RFC 4180): counted from 0, an even quote opens a cell or follows a quote, an odd one closes a cell
    or precedes a quote. Then strict and lenient readers agree.
    """
    fine = np.zeros(256, bool)
    fine[list(f'"\n\r{layout.separator}'.encode())] = True
    count, regular, several = 0, True, False
    try:
        for window in _windows(layout):
            places = np.flatnonzero(window[1:-1] == _QUOTE) + 1
            if len(places) or count % 2:
                opens = (np.arange(len(places)) + count) % 2 == 0
                regular = regular and bool(fine[window[places + np.where(opens, -1, 1)]].all())
                breaks = np.flatnonzero((window[1:-1] == _LF) | (window[1:-1] == _CR)) + 1
                several = several or bool(((np.searchsorted(places, breaks) + count) % 2).any())
                count += len(places)
    except UnicodeDecodeError:
        return count > 0, False, several
    return count > 0, regular and count % 2 == 0, several


def _windows(layout: _Layout) -> Iterator[npt.NDArray[np.uint8]]:
    """The bytes in blocks, each with one byte before and one after it, a line end around the whole."""
    decoder, tail = getincrementaldecoder("utf-8")(), b"\n"
    with open_bytes(layout.path) as file:
        file.read(layout.first_line)
        while tail:
            block = file.read(_BLOCK_BYTES)
            decoder.decode(block or b"\n")
            window = tail + (block or b"\n")
            yield np.frombuffer(window, np.uint8)
            tail = window[-2:] if block else b""


def _judge(layout: _Layout) -> bool:
    """Whether cells hold line breaks, by the strict reader of the standard library. Raises DataError with the row."""
    number, lines_before, several = 0, 0, False
    with open_bytes(layout.path) as file:
        file.read(layout.first_line)
        reader = _records(
            io.TextIOWrapper(file, "utf-8", "surrogateescape", newline=""), layout.separator, strict=True
        )
        while True:
            number += 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise DataError(f"{layout.path.name}, row {number}: {_said_of_quotes(str(error))}") from None
            if cells is None:
                return several
            several = several or (bool(cells) and reader.line_num > lines_before + 1)
            lines_before = reader.line_num
            if cells:
                _check_cells(layout, number, cells)
            else:
                number -= 1


def _said_of_quotes(error: str) -> str:
    if "end of data" in error:
        return 'a quote (") opens a cell and nothing closes it; close it, or write "" for a quote in a quoted cell'
    return f'not CSV ({error}); write a quote inside a quoted cell twice ("")'


def _check_cells(layout: _Layout, number: int, cells: list[str]) -> None:
    check_utf8(layout.path, number, layout.separator.join(cells))
    expected, separator = len(layout.header), SEPARATORS.get(layout.separator, repr(layout.separator))
    if len(cells) == expected:
        return
    if not any(cells[expected:]) and len(cells) > expected:
        remedy = f"remove {separator} at the end of the row, or add it to the header"
    elif len(cells) > expected:
        remedy = f"put quotes around cells that hold {separator}, or name every column in the header"
    else:
        remedy = "add the missing cells, or put quotes around a cell that runs over several lines"
    names = ", ".join(layout.header)
    raise DataError(
        f"{layout.path.name}, row {number}: found {len(cells)} cells, the header has {expected} ({names}) "
        f"by {separator}; {remedy}"
    )


def _lines_agree(layout: _Layout) -> bool:
    """Whether every line has as many cells as the header, if quotes mean nothing."""
    try:
        rows: int = sum(batch.num_rows for batch in _arrow_batches(layout))
        return rows > 0
    except pa.ArrowInvalid:
        return False


def _batches(layout: _Layout) -> Iterator[Any]:
    try:
        yield from _arrow_batches(layout)
    except pa.ArrowInvalid:
        _judge(layout)
        raise


def _arrow_batches(layout: _Layout) -> Iterator[Any]:
    """Again with larger blocks, behind the rows that were given, where a row is larger than a block."""
    done, block_bytes = 0, _BLOCK_BYTES
    while True:
        try:
            skipped = 0
            for batch in _opened(layout, block_bytes):
                new = batch.slice(min(done - skipped, batch.num_rows))
                skipped += batch.num_rows - new.num_rows
                yield new
                done, skipped = done + new.num_rows, skipped + new.num_rows
            return
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error) or block_bytes >= _MAX_BLOCK_BYTES:
                raise
            block_bytes *= 8


def _opened(layout: _Layout, block_bytes: int) -> Iterator[Any]:
    file = open_bytes(layout.path)
    file.read(layout.start)
    places = [str(place) for place in range(len(layout.header))]
    try:
        return iter(
            arrow_csv.open_csv(
                file,
                arrow_csv.ReadOptions(column_names=places, block_size=block_bytes),
                arrow_csv.ParseOptions(
                    delimiter=layout.separator,
                    quote_char='"' if layout.quoting else False,
                    newlines_in_values=layout.several_lines,
                ),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.string()),
                    include_columns=[str(place) for place in layout.names],
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return iter(())
        raise
