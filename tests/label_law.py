"""The law of labels (docs/training.md), written a second time without a line of the code under test.

What each row's label is, for columns that are known for what they are; compared with what reading gives.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

REFUSED = "refused"
Answer: TypeAlias = list[Any] | str
"""Each row's label (a set of names is a list in order), or REFUSED."""

_DIGITS = re.compile(r"-?(0|[1-9][0-9]*)(\.0+)?", re.ASCII)


def name_of(value: Any) -> str | None:
    """The first law, by another hand; None for no label."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value.strip()
        if _DIGITS.fullmatch(text):
            return str(int(text.partition(".")[0]))
        return {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}.get(text, text) or None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))  # all digits of the number, not of its shortest writing
    number = Decimal(str(value))
    return str(int(number)) if number == int(number) else f"{number:f}"


def _fits(name: str) -> bool:
    return len(name) <= 200 and not any(unicodedata.category(c) == "Cc" for c in name)


def learnable(targets: Sequence[Any], num_train: int) -> bool:
    return len({str(target) for target in targets[:num_train]}) > 1


def one_of(values: Sequence[Any], num_train: int, names: Sequence[str] | None = None) -> Answer:
    """The labels of rows that have one each."""
    found = [name_of(value) for value in values]
    hidden = set(found[num_train:]) == {"-1"} and "-1" not in found[:num_train]
    if None in found or hidden or not learnable(found, num_train):
        return REFUSED
    labels = _looked_up([str(name) for name in found], names)
    return labels if labels is not None and all(map(_fits, labels)) else REFUSED


def _looked_up(found: Sequence[str], names: Sequence[str] | None) -> list[str] | None:
    """The third law: by name, or all by place; None where neither does."""
    if names is None:
        return list(found)
    called = {name_of(name): name for name in names}
    places = {str(place): name for place, name in enumerate(names)}
    for known in (called, places):
        if all(text in known for text in found):
            return [known[text] for text in found]
        if any(text in called for text in found):
            return None
    return None


def several_of(rows: Sequence[Sequence[Any]], num_train: int, names: Sequence[str] | None = None) -> Answer:
    """The labels of rows that have any number; the fourth law."""
    found = [[name_of(part) for part in row] for row in rows]
    bits = {"0": 0, "1": 1, "false": 0, "true": 1}
    width = len(found[0])
    if width > 1 and all(len(row) == width and set(row) <= set(bits) for row in found):
        called = [str(place) for place in range(width)] if names is None else list(names)
        if len(called) != width:
            return REFUSED
        labels = [[called[i] for i, part in enumerate(row) if bits[str(part)]] for row in found]
    elif any(None in row or len(set(row)) < len(row) for row in found) or not any(found):
        return REFUSED
    else:
        flat = _looked_up([str(part) for row in found for part in row], names)
        if flat is None:
            return REFUSED
        taken = iter(flat)
        labels = [[next(taken) for _ in row] for row in found]
    labels = [sorted(row) for row in labels]
    return labels if learnable(labels, num_train) else REFUSED
