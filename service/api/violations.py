"""What pydantic found wrong with a request, in the words of the interface: its own do not reach a caller.

Knows pydantic's kinds of errors and JSON's names of types. A text of a body is never quoted, because it may
be a user's; what stands in an address or a header is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from failures import Failure

from .schemas import INCONSISTENT

MAX_SHOWN_CHARS = 40

_IN_ADDRESS = frozenset({"path", "query", "header", "cookie"})
_FORM = "docs/api.md and /openapi.json have the form of the request"
_OBJECT = "an object with the fields of the request"
# kind of error -> what is allowed; {name} is what pydantic's context has under that name
_ALLOWED = {
    "missing": "a value",
    "string_type": "a string",
    "string_unicode": "a string of valid Unicode",
    "list_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_long": "at most {max_length} characters",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
    "model_type": _OBJECT,
    "dict_type": _OBJECT,
    "model_attributes_type": _OBJECT,
}
_REMEDIES = {"missing": "add it", "extra_forbidden": "leave it out, or correct its name"}


def failure_of(details: ErrorDetails, known: Collection[str] = ()) -> Failure:
    """One violation; `known` are the fields that there are, named to who sent another."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == INCONSISTENT:
        allowed, remedy = str(context["allowed"]), str(context["remedy"])
    elif kind == "extra_forbidden":
        allowed, remedy = ", ".join(known) or "no field of this name", _REMEDIES[kind]
    else:
        words = _ALLOWED.get(kind)  # a kind that nobody has met yet says at least what pydantic says
        allowed = details["msg"] if words is None else words.format_map(context)
        remedy = _REMEDIES.get(kind, _FORM)
    return Failure(_place(details["loc"]), _found(details), allowed, remedy)


def summary(problems: Sequence[Failure]) -> str:
    """All violations in one sentence."""
    listed = "; ".join(f"{p.field}: got {p.got}, allowed: {p.allowed}" for p in problems)
    return f"the request has the wrong form: {listed}"


def shown(value: object) -> str:
    """A JSON value in a few words: numbers as they are, of everything else its type and size."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value) if len(str(value)) <= MAX_SHOWN_CHARS else "a number of many digits"
    if isinstance(value, str):
        return f"a string of length {len(value)}"
    if isinstance(value, Mapping):
        return "an object"
    return (
        f"a list of length {len(value)}" if isinstance(value, list | tuple) else "something that is not JSON"
    )


def _found(details: ErrorDetails) -> str:
    value: Any = details.get("input")
    if details["type"] == "missing" or (details["type"] == INCONSISTENT and value is None):
        return "nothing"
    if isinstance(value, str) and details["loc"][:1] and details["loc"][0] in _IN_ADDRESS:
        return repr(value[:MAX_SHOWN_CHARS])
    return shown(value)


def _place(loc: Sequence[str | int]) -> str:
    """Where it is, with dots between; what is in the body is named from there."""
    inside = loc[1:] if len(loc) > 1 and loc[0] == "body" else loc
    place = ".".join(str(part)[:MAX_SHOWN_CHARS] for part in inside) or "body"
    return place.encode("utf-8", "backslashreplace").decode()  # a key may hold half of a character
