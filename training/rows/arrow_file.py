"""Parquet and Arrow (file and stream), with the class names that the hub's metadata holds."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet

from training.errors import DataError
from training.rows.opening import named_columns, open_bytes, plain_format, refusing
from training.rows.values import Part, parts_of, plain_column

_FILE_START, _STREAM_END = b"ARROW1", b"\xff\xff\xff\xff\0\0\0\0"


def read_arrow(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows; a row's number is the record from 1. Raises DataError."""
    is_parquet = plain_format(path) == ".parquet"
    with refusing(path, "Parquet" if is_parquet else "Arrow"), open_bytes(path) as file:
        schema, batches = _parquet(file, max_rows) if is_parquet else _ipc(file)
        names, notes = named_columns(path, schema.names)
        classes, more = _class_names(path, schema)
        columns = {
            n: plain_column(pa.chunked_array([], schema.field(place).type)) for place, n in names.items()
        }
        yield Part(columns, (), (*notes, *more), classes)
        yield from parts_of(_valid(path, batches), names, max_rows, first=1)


def _valid(path: Path, batches: Iterable[Any]) -> Iterator[Any]:
    """The batches; texts were checked by no one yet. Raises DataError for one that is not UTF-8."""
    done = 0
    for batch in batches:
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            index = re.search(r"index (\d+)", str(error))
            number = done + 1 + (int(index[1]) if index else 0)
            raise DataError(f"{path.name}, row {number}: {error}; write it again from valid texts") from None
        done += batch.num_rows
        yield batch


def _parquet(file: Any, max_rows: int) -> tuple[Any, Iterator[Any]]:
    opened = parquet.ParquetFile(file)
    return opened.schema_arrow, opened.iter_batches(batch_size=max_rows)


def _ipc(file: Any) -> tuple[Any, Iterator[Any]]:
    start = file.read(len(_FILE_START))
    file.seek(0)
    if start == _FILE_START:
        opened = ipc.open_file(file)
        return opened.schema, (opened.get_batch(i) for i in range(opened.num_record_batches))
    file.seek(max(0, file.size() - len(_STREAM_END)))
    if file.read() != _STREAM_END:  # cut between two batches, it would be read as a whole one
        raise pa.ArrowInvalid("no end mark")
    file.seek(0)
    stream = ipc.open_stream(file)
    return stream.schema, iter(stream)


def _class_names(path: Path, schema: Any) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """By field, of the schema's `huggingface` metadata, else of `dataset_info.json` beside an Arrow file."""
    stored = (schema.metadata or {}).get(b"huggingface")
    beside = path.parent / "dataset_info.json"
    try:
        if stored is not None:
            features = json.loads(stored)["info"]["features"]
        elif beside.is_file() and plain_format(path) == ".arrow":
            features = json.loads(beside.read_bytes())["features"]
        else:
            return {}, ()
        return {name: names for name in schema.names if (names := _classes(features.get(name)))}, ()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, (f"{path.name}: the class names in its metadata cannot be read ({error!r})",)


def _classes(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel, or of a sequence of them."""
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if not isinstance(feature, dict):
        return ()
    return (
        tuple(feature["names"]) if feature.get("_type") == "ClassLabel" else _classes(feature.get("feature"))
    )
