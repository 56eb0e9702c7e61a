"""Parquet and Arrow (file and stream), with the class names that the hub's metadata holds."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc, parquet

from training.errors import DataError
from training.rows.opening import open_bytes, plain_format, refusing
from training.rows.values import Part, plain_column

_FILE_START = b"ARROW1"


def read_arrow(path: Path, max_rows: int) -> Iterator[Part]:
    """Parts of at most `max_rows` rows; a row's number is the record from 1. Raises DataError."""
    done = 0
    format_name = "Parquet" if plain_format(path) == ".parquet" else "Arrow"
    with refusing(path, format_name), open_bytes(path) as file:
        schema, batches = _parquet(file, max_rows) if format_name == "Parquet" else _ipc(file)
        yield _head(path, schema)
        for batch in batches:
            for start in range(0, batch.num_rows, max_rows):
                part = batch.slice(start, max_rows)
                yield Part(_columns(part), range(done + 1, done + part.num_rows + 1))
                done += part.num_rows


def _parquet(file: Any, max_rows: int) -> tuple[Any, Iterator[Any]]:
    opened = parquet.ParquetFile(file)
    return opened.schema_arrow, opened.iter_batches(batch_size=max_rows)


def _ipc(file: Any) -> tuple[Any, Iterator[Any]]:
    start = file.read(len(_FILE_START))
    file.seek(0)
    if start == _FILE_START:
        opened = ipc.open_file(file)
        return opened.schema, (opened.get_batch(i) for i in range(opened.num_record_batches))
    stream = ipc.open_stream(file)
    return stream.schema, iter(stream)


def _columns(batch: Any) -> dict[str, Any]:
    pairs = zip(batch.schema.names, batch.columns, strict=True)
    return {name: plain_column(pa.chunked_array([column])) for name, column in pairs if name}


def _head(path: Path, schema: Any) -> Part:
    names = [name for name in schema.names if name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name}: several columns have the name {', '.join(twice)}; rename them")
    notes = [f"{path.name}: a column without a name is ignored"] * (len(names) < len(schema.names))
    classes = _class_names(path, schema, notes)
    empty = pa.RecordBatch.from_pylist([], schema=schema)
    return Part(_columns(empty), (), tuple(notes), {n: c for n, c in classes.items() if n in names})


def _class_names(path: Path, schema: Any, notes: list[str]) -> Mapping[str, tuple[str, ...]]:
    """Of the schema's `huggingface` metadata, else of `dataset_info.json` beside an Arrow file."""
    stored = (schema.metadata or {}).get(b"huggingface")
    beside = path.parent / "dataset_info.json"
    try:
        if stored is not None:
            features = json.loads(stored)["info"]["features"]
        elif plain_format(path) == ".arrow" and beside.is_file():
            features = json.loads(beside.read_text(encoding="utf-8"))["features"]
        else:
            return {}
        return {name: found for name, one in features.items() if (found := _classes(one))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"{path.name}: the class names in its metadata cannot be read ({error!r})")
        return {}


def _classes(feature: Any) -> tuple[str, ...]:
    """The names of a ClassLabel, or of a sequence of them."""
    if isinstance(feature, list):
        return _classes(feature[0]) if feature else ()
    if not isinstance(feature, dict):
        return ()
    if feature.get("_type") == "ClassLabel":
        return tuple(str(name) for name in feature["names"])
    return _classes(feature.get("feature"))
