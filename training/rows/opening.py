"""One data file as bytes: known by its ending, unpacked, and refused where it is something else; no columns here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from training.errors import DataError

_PLAIN = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather", ".xlsx")
_PACKED = {".gz": "gzip", ".zst": "zstd"}
FORMATS = tuple(sorted((plain + packed for plain in _PLAIN for packed in ("", *_PACKED)), key=len)[::-1])
"""Every ending that is read, longest first."""

_STARTS = {
    b"\x1f\x8b": ("gzip", (".gz",)),
    b"\x28\xb5\x2f\xfd": ("zstd", (".zst",)),
    b"PAR1": ("Parquet", (".parquet",)),
    b"ARROW1": ("Arrow", (".arrow", ".feather")),
    b"PK\x03\x04": ("an Excel workbook (.xlsx) or a zip archive", (".xlsx",)),
    b"\xd0\xcf\x11\xe0": ("an old or encrypted Excel workbook, to be saved as .xlsx", ()),
    b"<!doctype html": ("a web page, not the file behind it", ()),
    b"<html": ("a web page, not the file behind it", ()),
}
"""How bytes begin: what that is, and which endings it may have."""
_POINTER = b"version https://git-lfs"
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def format_of(path: Path) -> str | None:
    """The format by the name's ending in any case, or None."""
    return next((ending for ending in FORMATS if path.name.lower().endswith(ending)), None)


def plain_format(path: Path) -> str:
    """The ending without that of a compression. Raises DataError for one that is not read."""
    ending = format_of(path)
    if ending is None:
        known = ", ".join(_PLAIN)
        raise DataError(
            f"{path.name}: the ending is none of {known} (each also with .gz or .zst); convert or rename the file"
        )
    return next(plain for plain in _PLAIN if ending in {plain, plain + ".gz", plain + ".zst"})


@contextmanager
def refusing(path: Path, expected: str = "readable") -> Iterator[None]:
    """Turns what the libraries say of a broken file into a DataError with its name."""
    try:
        yield
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path.name}: not {expected}, or cut off ({reason}); write or download it again"
        ) from None


def open_bytes(path: Path) -> Any:
    """A binary file (pyarrow's) of the unpacked content.

    Raises:
        DataError: an unknown ending, no such file, a folder, no permission, a pointer of Git LFS, or bytes of
            another format than the ending says.
    """
    plain = plain_format(path)
    if path.is_dir():
        raise DataError(f"{path}: a folder with the name of a file; give the file inside")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from None
    _check_start(path, start)
    codec = _PACKED.get(path.suffix.lower())
    if codec is None:
        return pa.OSFile(str(path))
    unpacked = pa.CompressedInputStream(pa.OSFile(str(path)), codec)
    return (
        unpacked if plain not in {".parquet", ".arrow", ".feather", ".xlsx"} else _in_memory(path, unpacked)
    )


def _in_memory(path: Path, unpacked: Any) -> Any:
    """These formats are read from their end."""
    with refusing(path, "whole"):
        return pa.BufferReader(unpacked.read())


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise DataError(f"{path.name}: the file is empty; a header or a row is expected")
    if start.startswith(_POINTER):
        raise DataError(f"{path.name}: a pointer of Git LFS, not the data; run `git lfs pull`")
    for mark, (what, endings) in _STARTS.items():
        if start.lower().startswith(mark.lower()) and not path.name.lower().endswith(endings):
            raise DataError(f"{path.name}: its bytes are {what}; rename, convert or download it again")


def check_marks(path: Path, start: bytes) -> None:
    """Raises DataError where a text begins as UTF-16 or UTF-32 does."""
    found = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    zeros = start[:64].count(0)
    if found is None and zeros * 3 > len(start[:64]):
        found = "UTF-16" if zeros * 8 <= len(start[:64]) * 5 else "UTF-32"
    if found:
        raise DataError(f"{path.name}, row 1: the text is {found}, not UTF-8; save it as UTF-8")


def check_utf8(path: Path, row: int, text: str) -> None:
    """Raises DataError where `text`, decoded with "surrogateescape", was not UTF-8; names the likely encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        likely = likely_encoding(text.encode("utf-8", "surrogateescape"))
        raise DataError(f"{path.name}, row {row}: not UTF-8, likely {likely}; save it as UTF-8") from None


_LIKELY = (
    ("euc_kr", "\uac00", "\ud7a3", 0.9),
    ("shift_jis", "\u3041", "\u30ff", 0.3),
    ("euc_jp", "\u3041", "\u30ff", 0.3),
    ("cp1251", "\u0430", "\u0451", 0.6),
    ("koi8_r", "\u0430", "\u0451", 0.6),
    ("gb18030", "\u4e00", "\u9fa5", 0.6),
)
"""An encoding, and the share of letters between two that a text in it has: syllables, kana, small letters."""


def likely_encoding(data: bytes) -> str:
    """The name of the encoding of `data`, which is not UTF-8: by the letters that come out; Western if few do."""
    high = sum(byte > 127 for byte in data)
    if high * 2 > sum(chr(byte).isalpha() for byte in data if byte < 128):
        for name, first, last, share in _LIKELY:
            letters = [c for c in data.decode(name, "replace") if ord(c) > 127]
            if sum(first <= c <= last for c in letters) > share * len(letters):
                return name
    return "cp1252 (Windows, Western European)"
