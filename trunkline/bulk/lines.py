"""Inputs that stand in lines: a text each, or JSON. Pure; opens no file, knows no server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from trunkline.errors import Invalid

_FIELDS = {"text", "text_pair", "label", "labels", "sentence", "sentence1", "premise", "question", "choices"}
"""Of which a header has one, where a table came as plain lines."""


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
            if number == 1 and not as_json:
                _refuse_rows(text)
            if not as_json:
                yield text
            elif text.strip():
                yield _json_item(json.loads(text))
    except UnicodeDecodeError as error:
        raise Invalid(f"{source}, after line {number}: not UTF-8 text ({error.reason})") from error
    except ValueError as error:
        raise Invalid(f"{source}, line {number}: {error}") from error


def _refuse_rows(first: str) -> None:
    """A table or JSON that came as plain lines would be asked header and all. Raises ValueError."""
    for separator in ",;\t|":
        cells = [cell.strip(' "\ufeff').lower() for cell in first.split(separator)]
        if len(cells) > 1 and _FIELDS & set(cells):
            raise ValueError(
                f"{first[:60]!r} is the header of a table, and lines are texts; give the table with --file, "
                "under a name that ends in .csv or .tsv"
            )
    if first.lstrip("\ufeff ").startswith('{"') and '"text"' in first:
        raise ValueError(f"{first[:60]!r} is JSON, and lines are texts; give --jsonl")


def _json_item(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "text" not in value:
        raise ValueError(
            'an object needs the key "text" (and "text_pair" for pairs, or "choices"); a file '
            "of objects alone is read by the task's own fields"
        )
    return {key: value[key] for key in ("text", "text_pair", "choices") if key in value}
