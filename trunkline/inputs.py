"""What may be given as `inputs`, and how it becomes JSON; judging items one by one is left to the server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Text: TypeAlias = str
Pair: TypeAlias = tuple[str, str]
Item: TypeAlias = Text | Pair | Mapping[str, object]  # the last: {"text"} with "text_pair" or "choices"
Inputs: TypeAlias = Item | Iterable[Item]


def is_single(inputs: object) -> bool:
    """Whether `inputs` is one item: a string, a mapping, or a tuple of exactly two strings (a pair).

    Raises TypeError for another tuple of strings, because nobody can tell texts from a pair there.
    """
    if isinstance(inputs, str | Mapping):
        return True
    if not isinstance(inputs, tuple) or not inputs or not all(isinstance(part, str) for part in inputs):
        return False
    if len(inputs) == 2:
        return True
    raise TypeError(
        f"a tuple of {len(inputs)} strings is neither a pair nor a list: use a list for several texts"
    )


def to_list(inputs: Inputs) -> list[Any]:
    """The items as JSON values, in order.

    Anything JSON can carry is sent as it is, so that one bad item fails alone at the server.
    Raises TypeError, naming the place, for what JSON cannot carry (bytes, objects).
    """
    if is_single(inputs):
        return [_item(0, inputs)]
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise TypeError(f"inputs must be a text, a pair or a list of them, not {type(inputs).__name__}")
    return [_item(index, item) for index, item in enumerate(inputs)]


def _item(index: int, item: object) -> object:
    if isinstance(item, str):
        return str(item)
    if isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return {"text": item[0], "text_pair": item[1]}
    if isinstance(item, float) and not math.isfinite(item):
        return None  # table libraries put NaN where a text is missing; JSON has none, and null is refused too
    value = dict(item) if isinstance(item, Mapping) else item
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise TypeError(f"inputs[{index}] is {type(item).__name__}: give a text or a pair of texts") from None
    return value


def to_body(payload: Mapping[str, Any]) -> bytes:
    """The JSON bytes of a request. Lone surrogates, which UTF-8 cannot hold, travel as escapes."""
    try:
        return json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(payload).encode()
