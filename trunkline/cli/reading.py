"""Reads the inputs of `predict` from a file or a stream. Pure but for the file it opens; knows no server."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from trunkline.errors import Invalid

T = TypeVar("T")

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


def read_file(path: Path, *, as_json: bool) -> Iterator[Any]:
    """The inputs of a file; JSON when said so or by its name, decompressed when that ends in .gz.

    A byte order mark is no part of it. Raises OSError and what read_items raises.
    """
    as_json = as_json or path.name.removesuffix(".gz").endswith(JSON_SUFFIXES)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
        lines = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")
        yield from read_items(lines, as_json=as_json, source=str(path))


def read_items(lines: Iterable[str], *, as_json: bool, source: str) -> Iterator[Any]:
    """One input a line: the line itself, or its JSON (a text, a list of two texts, or an object).

    An object's "text", "text_pair" and "choices" are used, its other keys ignored: files of labelled rows
    work.
    Raises Invalid, naming the line, for what is not JSON or not UTF-8.
    """
    number = 0
    try:
        for line in lines:
            number += 1
            text = line.rstrip("\r\n")
            if not as_json:
                yield text
            elif text.strip():
                yield _json_item(json.loads(text))
    except UnicodeDecodeError as error:
        raise Invalid(f"{source}, after line {number}: not UTF-8 text ({error.reason})") from error
    except ValueError as error:
        raise Invalid(f"{source}, line {number}: {error}") from error


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, in order, without reading ahead."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _json_item(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "text" not in value:
        raise ValueError('an object needs the key "text" (and "text_pair" for pairs, or "choices")')
    return {key: value[key] for key in ("text", "text_pair", "choices") if key in value}
