"""The rows of a file, read twice: once for its columns and its length, then in parts to be asked.

The first reading finds a row that is broken before anything is asked, and columns that only later rows have.
Tables are read as training reads them; lines of text, and JSON lines that are inputs, are read here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from training.rows.files import find_splits
from training.rows.tables import FORMATS, Table, format_of, read_batches
from training.rows.values import Values
from trunkline.bulk.lines import read_items
from trunkline.bulk.types import Kinds
from trunkline.errors import Invalid

_JSON = (".jsonl", ".ndjson", ".json")
_LINES = (".txt", ".txt.gz", ".txt.zst")
_SURVEY_ROWS = 8192


@dataclass(frozen=True)
class Source:
    """`columns` are those of all rows, in order, with their Arrow types (None: no common one).

    `are_inputs`: a row is an input itself (`text`, `text_pair`, `choices`), no field of it is a task's own.
    """

    name: str
    paths: tuple[Path, ...]
    columns: Mapping[str, Any]
    num_rows: int
    are_inputs: bool
    as_json: bool
    notes: tuple[str, ...]

    def tables(self, max_rows: int, skipped: int = 0) -> Iterator[Table]:
        """The rows behind the first `skipped`, in order. Raises DataError, Invalid or OSError."""
        read = _input_tables(self.paths[0], self.as_json, max_rows) if self.are_inputs else None
        for table in read or read_batches(self.paths, max_rows):
            left = table.num_rows - skipped
            if skipped and left > 0:
                table = table.take(range(skipped, table.num_rows))  # noqa: PLW2901 - the rows not yet asked
            skipped = max(0, -left)
            if left > 0:
                yield table

    def digest(self) -> str:
        """Of all bytes that are read."""
        found = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()


def open_source(path: Path, *, as_json: bool = False, split: str | None = None) -> Source:
    """What is in a file, or in the files of a folder's one split (or the one that is named).

    Raises:
        Invalid, DataError: an ending that is not read, several splits, or the first row that is broken.
        OSError: no such file.
    """
    paths = _files(path, split)
    lines = path.name.lower().endswith(_LINES)
    ending = None if lines else format_of(path)
    if as_json and ending is not None and not ending.startswith(_JSON):
        raise Invalid(f"{path.name} is no file of JSON lines; leave --jsonl out")
    as_json = as_json and ending is None  # of an ending that says so, the content decides
    if not (lines or as_json or path.is_dir() or ending):
        known = ", ".join(ending for ending in FORMATS[::-1] if ending.count(".") == 1)
        raise Invalid(
            f"{path.name}: the ending is none of {known} (each also with .gz or .zst); rename or convert the "
            "file, or send one text a line through stdin"
        )
    if lines or as_json or (ending is not None and ending.startswith(_JSON) and _has_bare_lines(path)):
        return _survey_of_inputs(path, as_json=not lines or as_json)
    return _survey(path, paths)


def _files(path: Path, split: str | None) -> tuple[Path, ...]:
    if not path.is_dir():
        path.stat()  # raises OSError with the name
        return (path,)
    splits = find_splits(path)
    if split is None and len(splits) > 1:
        raise Invalid(f"{path}: holds {', '.join(splits)}; say which with --split, or name a file")
    if split is not None and split not in splits:
        raise Invalid(f"{path}: no {split} files (--split); there are {', '.join(splits)}")
    return splits[split] if split else next(iter(splits.values()))


def _survey(path: Path, paths: tuple[Path, ...]) -> Source:
    if path.is_file() and path.name.lower().endswith(".parquet"):
        head = next(read_batches(paths, 1))
        num_rows, kinds = parquet.ParquetFile(path).metadata.num_rows, Kinds()
        kinds.add(head.columns)
        return Source(
            head.source, paths, kinds.found, num_rows, are_inputs=False, as_json=False, notes=head.notes
        )
    num_rows, kinds, notes, name = 0, Kinds(), dict[str, None](), path.name
    for table in read_batches(paths, _SURVEY_ROWS):
        kinds.add(table.columns)
        num_rows += table.num_rows
        notes |= dict.fromkeys(table.notes)
        name = table.source
    return Source(name, paths, kinds.found, num_rows, are_inputs=False, as_json=False, notes=tuple(notes))


def _survey_of_inputs(path: Path, *, as_json: bool) -> Source:
    num_rows, kinds = 0, Kinds()
    for table in _input_tables(path, as_json, _SURVEY_ROWS):
        kinds.add(table.columns)
        num_rows += table.num_rows
    found = kinds.found or {"text": pa.string()}
    return Source(path.name, (path,), found, num_rows, are_inputs=True, as_json=as_json, notes=())


def _input_tables(path: Path, as_json: bool, max_rows: int) -> Iterator[Table]:
    with _text(path) as lines:
        items = read_items(lines, as_json=as_json, source=str(path))
        done = 0
        while chunk := list(islice(items, max_rows)):
            yield table_of_inputs(chunk, path.name, done)
            done += len(chunk)


def table_of_inputs(items: Sequence[Any], source: str, done: int = 0) -> Table:
    """Inputs by their parts."""
    rows = [fields_of(item) for item in items]
    names = [name for name in ("text", "text_pair", "choices") if any(name in row for row in rows)]
    columns: dict[str, Values] = {name: [row.get(name) for row in rows] for name in names}
    return Table(source, columns, np.arange(done + 1, done + len(rows) + 1), ((source, 0),))


def fields_of(item: Any) -> dict[str, Any]:
    """The input as the HTTP interface writes it."""
    if isinstance(item, Mapping):
        return {"text": item.get("text"), **item}
    if isinstance(item, list | tuple) and len(item) == 2:
        return {"text": item[0], "text_pair": item[1]}
    return {"text": item}


def inputs_of(table: Table, choices: Sequence[str]) -> Iterator[Any]:
    """The inputs in the parts of `table_of_inputs`; those without a second text or choices get `choices`."""
    names = list(table.columns)
    for values in zip(*(table.values(name) for name in names), strict=True):
        row = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        if set(row) <= {"text"}:
            text = row.get("text")
            yield {"text": text, "choices": [*choices]} if choices and isinstance(text, str) else text
        else:
            yield {"text": None, **row}


@contextmanager
def _text(path: Path) -> Iterator[Iterable[str]]:
    """The lines of a file, unpacked; a byte order mark is no part of it."""
    path.stat()  # raises OSError with the name
    try:
        with gzip.open(path) if path.suffix == ".gz" else pa.input_stream(str(path)) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")
    except (gzip.BadGzipFile, EOFError, pa.ArrowException) as error:
        raise Invalid(f"{path.name}: not whole, or not what its ending says ({error})") from None


def _has_bare_lines(path: Path) -> bool:
    """Whether a line is an input and no row: a text, a pair of texts, a number."""
    with _text(path) as lines:
        try:
            for line in lines:
                start = line.lstrip()[:1]
                if start and start != "{":
                    value = json.loads(line)
                    return not isinstance(value, list) or not any(isinstance(one, dict) for one in value)
        except ValueError:  # lines of something that is written over several
            return False
    return False
