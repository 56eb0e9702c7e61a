"""One data file as bytes: known by its ending, unpacked, and refused where it is something else."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from training.errors import DataError

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather", ".xlsx")
CONLL = (".conll", ".iob", ".iob2", ".bio", ".txt")
_PLAIN = (*_TABLES, *CONLL)
_PACKED = {"": None, ".gz": "gzip", ".zst": "zstd"}
_FROM_THE_END = {".parquet", ".arrow", ".feather", ".xlsx"}
FORMATS = tuple(sorted((plain + packed for plain in _PLAIN for packed in _PACKED), key=len, reverse=True))
"""Every ending that is read, longest first."""

_STARTS = {
    b"version https://git-lfs": ("a pointer of Git LFS, not the data: run `git lfs pull`", ()),
    b"<!doctype html": ("a web page: download the file behind it", ()),
    b"<html": ("a web page: download the file behind it", ()),
    b"\xd0\xcf\x11\xe0": ("an old or encrypted Excel workbook: save it as .xlsx without a password", ()),
    b"pk\x03\x04": ("an Excel workbook or a zip archive: name it .xlsx, or unpack it", (".xlsx",)),
    b"\x1f\x8b": ("packed by gzip: add .gz to its name", (".gz",)),
    b"\x28\xb5\x2f\xfd": ("packed by zstd: add .zst to its name", (".zst",)),
    b"par1\x15": ("Parquet: name it .parquet", (".parquet",)),
    b"arrow1\0\0": ("Arrow: name it .arrow", (".arrow", ".feather")),
    b"\xff\xfe\0\0": ("row 1 is UTF-32: save it as UTF-8", ()),
    b"\0\0\xfe\xff": ("row 1 is UTF-32: save it as UTF-8", ()),
    b"\xff\xfe": ("row 1 is UTF-16: save it as UTF-8", ()),
    b"\xfe\xff": ("row 1 is UTF-16: save it as UTF-8", ()),
}
"""How bytes (in small letters) begin, what that is and helps, and the endings that it belongs to."""


def format_of(path: Path) -> str | None:
    """The ending, in any case, by which a file is read, or None."""
    return next((ending for ending in FORMATS if path.name.lower().endswith(ending)), None)


def plain_format(path: Path) -> str:
    """The same without a compression. Raises DataError for another ending."""
    ending = format_of(path)
    if ending is None:
        known = ", ".join(_PLAIN)
        raise DataError(f"{path.name}: the ending is none of {known}, perhaps with .gz or .zst; convert it")
    return next(plain for plain in _PLAIN if ending.removesuffix(".gz").removesuffix(".zst") == plain)


@contextmanager
def refusing(path: Path, expected: str = "readable") -> Iterator[None]:
    """What libraries say of a broken file becomes a DataError with its name."""
    try:
        yield
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{path.name}: not {expected}, or cut off ({reason}); write it again") from None


def open_bytes(path: Path) -> Any:
    """The unpacked content as a binary file of pyarrow's; from Parquet, Arrow and .xlsx one that can seek.

    Raises:
        DataError: no such file or no permission, an unknown ending, or another content than the ending says.
    """
    plain, packed = plain_format(path), path.suffix.lower()
    try:
        with path.open("rb") as file:
            _check_start(path, file.read(64), packed)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a file that can") from None
    opened = pa.OSFile(str(path))
    if packed not in _PACKED:
        return opened
    with refusing(path, packed[1:]):
        unpacked = pa.CompressedInputStream(opened, _PACKED[packed])
        _check_start(path, unpacked.read(64), plain)
        unpacked = pa.CompressedInputStream(pa.OSFile(str(path)), _PACKED[packed])
        return pa.BufferReader(unpacked.read()) if plain in _FROM_THE_END else unpacked


def _check_start(path: Path, start: bytes, ending: str) -> None:
    if not start:
        raise DataError(f"{path.name}: the file is empty; rows are expected")
    for mark, (what, endings) in _STARTS.items():
        if start.lower().startswith(mark) and ending not in endings:
            raise DataError(f"{path.name}: {what}")
    if ending in _PLAIN and ending not in _FROM_THE_END and start.count(0) * 3 > len(start):
        raise DataError(f"{path.name}: row 1 is likely UTF-16: save it as UTF-8")


def check_utf8(path: Path, row: int, text: str) -> None:
    """DataError where `text`, decoded by "surrogateescape", was not UTF-8; with the likely encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        likely = likely_encoding(text.encode("utf-8", "surrogateescape"))
        raise DataError(f"{path.name}, row {row}: not UTF-8, likely {likely}; save it as UTF-8") from None


_LIKELY = {"cp1251": "ая", "koi8_r": "ая", "euc_kr": "가힣"}
_LIKELY |= {"shift_jis": "ぁ龥", "gb18030": "一龥", "euc_jp": "ぁ龥"}
"""The first and the last of the letters that most of a text in an encoding consists of."""


def likely_encoding(data: bytes) -> str:
    """Of bytes that are not UTF-8: by the letters that come out; Western where most are ASCII."""
    high = sum(byte > 127 for byte in data)
    if high * 2 > sum(chr(byte).isalpha() for byte in data if byte < 128):
        for name, letters in _LIKELY.items():
            found = [c for c in data.decode(name, "replace") if ord(c) > 127]
            if sum(letters[0] <= c <= letters[1] for c in found) > 0.75 * len(found):
                return name
    central = re.search(r"[a-z][³¹¿]|[³¹¿][a-z]", data.decode("cp1252", "replace"))
    return "cp1250 (Windows, Central European)" if central else "cp1252 (Windows, Western European)"


_AROUND = "\ufeff\u200b\u200e\u200f\u00a0 \t\r\n"
"""What is cut off around a column's name: spaces, and what nobody sees."""


def named_columns(path: Path, header: Sequence[Any]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Names by place, and what is told of columns without one. Raises DataError for a name twice."""
    names = {place: str(cell).strip(_AROUND) for place, cell in enumerate(header) if cell is not None}
    names = {place: name for place, name in names.items() if name}
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice or not names:
        found = f"several columns are called {', '.join(twice)}" if twice else "no column has a name"
        raise DataError(f"{path.name}, row 1: {found}; give every column a name of its own")
    unnamed = len(header) - len(names)
    return names, (f"{path.name}: {unnamed} column(s) without a name ignored",) * bool(unnamed)
