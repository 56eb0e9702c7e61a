"""Lists that a program printed into a cell: `['a', 'b']`, `[0 1 0]`, `{'a'}`, `set()`."""

import ast
import json
import re
import warnings
from contextlib import suppress
from typing import Any

_ITEM = re.compile(
    r"""\s*(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([^\s,'"\[\](){}]+))\s*(?:,|(?=[\s'"])|$)""", re.DOTALL
)
_NAMED = re.compile(r"(?:array|set|frozenset)\((.*?)(?:,\s*dtype=[\w<>.']+)?\)", re.DOTALL)
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_BARE = re.compile(r"-?[0-9][0-9.e+-]*|[Tt]rue|[Ff]alse")
_NOTHING = ("nan", "NaN", "None", "null", "<NA>")


def printed_list(cell: str) -> list[str | None] | None:
    """The items of a printed list (also as numpy prints one, without commas); None for any other text.

    Words must stand in quotes: brackets around a bare word are common in labels. A printed null is None.
    """
    text = cell.strip()
    if named := _NAMED.fullmatch(text):
        text = named[1].strip() or "[]"
    if len(text) < 2 or _BRACKETS.get(text[0]) != text[-1]:
        return None
    body = text[1:-1].strip()
    items: list[str | None] = []
    place = 0
    while place < len(body):
        found = _ITEM.match(body, place)
        if found is None or found.end() == place:
            return None
        if found[1]:
            item = _quoted(found[1])
        elif found[2] not in _NOTHING and not (text[0] == "[" and _BARE.fullmatch(found[2])):
            return None
        else:
            item = None if found[2] in _NOTHING else found[2].removesuffix(".")
        if found[1] and item is None:
            return None
        items.append(item)
        place = found.end()
    return items


def _quoted(word: str) -> str | None:
    """What stands in quotes, by the rules of JSON or Python; None where it follows neither."""
    readers = (json.loads, ast.literal_eval) if word[0] == '"' else (ast.literal_eval,)
    for read in readers:
        with suppress(ValueError, SyntaxError), warnings.catch_warnings():
            warnings.simplefilter("error", SyntaxWarning)
            return str(read(word))
    return None


def listed(value: object) -> list[Any] | None:
    """A list, also a printed one; None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    return printed_list(value) if isinstance(value, str) else None
