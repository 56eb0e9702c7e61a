"""CSV and TSV; every cell is text. pyarrow reads what is plain; what it refuses or takes leniently is read,
or refused by row, by the strict reader of the standard library.
"""

import csv
import io
import re
import sys
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from training.errors import DataError
from training.rows.opening import check_utf8, named_columns, open_bytes, plain_format, refusing
from training.rows.values import Part, parts_of

_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_BLOCK_BYTES = 1 << 20
_SAMPLE_ROWS = 200
_QUOTE, _LF, _CR = b'"\n\r'
_SAID = re.compile(r'"?sep=([ -~\t])"?\r?\n')
"""The first line, where Excel says its separator in one."""


@dataclass(frozen=True)
class _Layout:
    """How a file is written; `start` and `rows` are the bytes where header and rows begin."""

    path: Path
    separator: str
    header: list[str]
    start: int
    rows: int
    quoting: bool = True

    @property
    def between(self) -> str:
        """The separator, for messages."""
        return _SEPARATORS.get(self.separator, repr(self.separator))


def read_csv(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows. The header is row 1, and empty lines do not count.

    Raises:
        DataError: no UTF-8, irregular quotes, more or fewer cells than the header has, with the row.
    """
    with refusing(path):
        layout = _layout(path)
        names, notes = named_columns(path, layout.header)
        layout, plain, more = _understood(layout)
        yield Part({name: pa.chunked_array([], pa.string()) for name in names.values()}, (), (*notes, *more))
        yield from parts_of(_batches(layout, plain), names, max_rows, first=2)


def _layout(path: Path) -> _Layout:
    with open_bytes(path) as file:
        block = file.read(_BLOCK_BYTES)
    start = len(BOM_UTF8) * block.startswith(BOM_UTF8)
    text = block[start:].decode("utf-8", "surrogateescape")
    if said := _SAID.match(text):
        start += len(said.group().encode())
        text = text[said.end() :]
    separator = said.group(1) if said else _separator(path, text, whole=len(block) < _BLOCK_BYTES)
    lines = io.StringIO(text, newline="")
    header: list[str] = next(filter(None, _cells(lines, separator)), [])
    rows = start + len(text[: lines.tell()].encode("utf-8", "surrogateescape"))
    return _Layout(path, separator, header, start, rows)


def _cells(lines: Any, separator: str, *, strict: bool = False, quoting: bool = True) -> Any:
    csv.field_size_limit(sys.maxsize)  # a cell has any length; there is no switch but the process's
    return csv.reader(
        lines, delimiter=separator, strict=strict, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
    )


def _separator(path: Path, text: str, *, whole: bool) -> str:
    """The one by which header and rows have as many cells. Raises DataError where there are several."""
    shares: dict[str, tuple[float, int]] = {}
    for separator in _SEPARATORS:
        rows = list(islice(filter(None, _cells(io.StringIO(text, newline=""), separator)), _SAMPLE_ROWS))
        width = len(rows[0]) if rows else 0
        sample = rows[1:] if whole else rows[1:-1]
        if width > 1:
            agreeing = sum(len(row) == width for row in sample)
            shares[separator] = agreeing / len(sample) if sample else 1.0, width
    usual = _usual(path)
    whole_shares = [separator for separator, (share, _) in shares.items() if share == 1]
    if not shares or (usual in whole_shares and usual == "\t"):
        return usual
    if len(whole_shares) > 1:
        found = " or ".join(_SEPARATORS[separator] for separator in whole_shares)
        raise DataError(f"{path.name}, row 1: separated by {found}? put quotes around cells that hold either")
    return max(shares, key=lambda separator: shares[separator])


def _usual(path: Path) -> str:
    return "\t" if plain_format(path) == ".tsv" else ","


def _understood(layout: _Layout) -> tuple[_Layout, bool, tuple[str, ...]]:
    """The layout, whether it is plain enough for pyarrow, and what is to be told."""
    name, notes = layout.path.name, []
    if layout.separator != _usual(layout.path):
        notes.append(f"{name}: columns are separated by {layout.between}")
    plain, over_lines = _scan(layout)
    if (over_lines or not plain) and (num_lines := _num_whole_lines(layout)):
        if layout.separator == "\t":
            notes.append(f"{name}: quotes are part of the texts, as every line by itself has all cells")
            return replace(layout, quoting=False), True, tuple(notes)
        if num_lines != sum(1 for _ in _strict(layout)):
            notes.append(f"{name}: quoted cells hold line ends, though every line by itself has all cells")
    return layout, plain, tuple(notes)


def _scan(layout: _Layout) -> tuple[bool, bool]:
    """Whether all is UTF-8 with regular quotes, and whether cells hold line ends.

    Regular (RFC 4180): counted from 0, an even quote begins a cell or follows a quote, an odd one ends a cell
    or precedes a quote. Strict and lenient readers take such a file alike.
    """
    beside = np.zeros(256, bool)
    beside[list(f'"\n\r{layout.separator}'.encode())] = True
    num_quotes, regular, over_lines = 0, True, False
    try:
        for window in _windows(layout):
            inner = window[1:-1]
            quotes = np.flatnonzero(inner == _QUOTE)
            if len(quotes) or num_quotes % 2:
                odd = num_quotes % 2
                around = np.concatenate([window[quotes[odd::2]], window[quotes[1 - odd :: 2] + 2]])
                regular = regular and bool(beside[around].all())
                ends = np.flatnonzero(inner <= _CR)  # few: one comparison of all bytes is enough
                ends = ends[(inner[ends] == _LF) | (inner[ends] == _CR)]
                over_lines = over_lines or bool(((np.searchsorted(quotes, ends) + num_quotes) % 2).any())
                num_quotes += len(quotes)
    except UnicodeDecodeError:
        return False, over_lines
    return regular and num_quotes % 2 == 0, over_lines


def _windows(layout: _Layout) -> Iterator[npt.NDArray[np.uint8]]:
    """Blocks, each with a byte before and after it; around all are line ends. Raises UnicodeDecodeError."""
    decoder, before = getincrementaldecoder("utf-8")(), b"\n"
    with open_bytes(layout.path) as file:
        file.read(layout.start)
        while block := file.read(_BLOCK_BYTES):
            decoder.decode(block)
            yield np.frombuffer(before + block, np.uint8)
            before = (before + block)[-2:]
    decoder.decode(b"", final=True)
    yield np.frombuffer(before + b"\n", np.uint8)


def _num_whole_lines(layout: _Layout) -> int:
    """How many lines there are, if each has as many cells as the header where quotes mean nothing; else 0."""
    try:
        return sum(1 for _ in _strict(replace(layout, quoting=False)))
    except DataError:
        return 0


def _batches(layout: _Layout, plain: bool) -> Iterator[Any]:
    done = 0
    if plain:
        try:
            for batch in _arrow(layout):
                yield batch
                done += batch.num_rows
            return
        except pa.ArrowInvalid:
            pass  # a row larger than a block, or of other cells than the header: read, or refused, below
    rows = islice(_strict(layout), 1 + done, None)
    while chunk := list(islice(rows, 1024)):
        columns = [pa.array(cells, pa.string()) for cells in zip(*chunk, strict=True)]
        yield pa.record_batch(columns, [str(place) for place in range(len(columns))])


def _arrow(layout: _Layout) -> Iterator[Any]:
    places = [str(place) for place in range(len(layout.header))]
    with open_bytes(layout.path) as file:
        file.read(layout.rows)
        yield from arrow_csv.open_csv(
            file,
            arrow_csv.ReadOptions(column_names=places, block_size=_BLOCK_BYTES),
            arrow_csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if layout.quoting else False,
                newlines_in_values=layout.quoting,
            ),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )


def _strict(layout: _Layout) -> Iterator[list[str]]:
    """Header and rows. Raises DataError with the row."""
    number = 1
    with open_bytes(layout.path) as file:
        file.read(layout.start)
        lines = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
        try:
            for row in _cells(lines, layout.separator, strict=True, quoting=layout.quoting):
                if row:
                    _check(layout, number, row)
                    yield row
                    number += 1
        except csv.Error as error:
            remedy = 'close the quote, or write "" for one inside a quoted cell'
            raise DataError(f"{layout.path.name}, row {number}: not CSV ({error}); {remedy}") from None


def _check(layout: _Layout, number: int, row: list[str]) -> None:
    check_utf8(layout.path, number, layout.separator.join(row))
    expected = len(layout.header)
    if len(row) == expected:
        return
    if len(row) < expected:
        remedy = "add the missing cells, or put quotes around a cell of several lines"
    elif any(row[expected:]):
        remedy = f"put quotes around cells that hold {layout.between}, or name every column in the header"
    else:
        remedy = f"remove {layout.between} at the end, or add it to the header"
    raise DataError(
        f"{layout.path.name}, row {number}: found {len(row)} cells, the header has {expected} "
        f"({', '.join(layout.header)}), separated by {layout.between}; {remedy}"
    )
