"""From the bytes of a body to a model: JSON in UTF-8, and what to say of everything else.

The fast parser refuses a whole body for one lone surrogate, the half of a character that is left when a text
is cut between two UTF-16 units and that programs send as an escape. Such bodies alone are parsed a second
time, so that the item which holds it fails and its neighbours do not; no other body pays for it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from failures import Failure

from ..engine.items import lone_surrogate
from ..errors import InvalidInput, MalformedRequest
from .violations import MAX_SHOWN_CHARS, failure_of, summary

M = TypeVar("M", bound=BaseModel)

# As an escape, or as the three bytes that some programs write where UTF-8 has none.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_GZIP = b"\x1f\x8b"


def read_json(body: bytes, model: type[M], *, judged_later: Collection[str] = ()) -> M:
    """The model in the body; fields `judged_later` may hold lone surrogates, which are for others to judge.

    Raises MalformedRequest (not JSON, not UTF-8), InvalidInput (with every violation).
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
    if found[0]["type"] != "json_invalid":
        _refuse(found, model)
    if not _SURROGATE.search(body):
        raise MalformedRequest(_why_not_json(body, found[0]["ctx"]["error"]))
    try:
        return model.model_validate(_with_surrogates(body, judged_later))
    except ValidationError as error:
        _refuse(error.errors(include_url=False), model)


def check_utf8(body: bytes) -> bytes:
    """The body without a byte order mark. Raises MalformedRequest for another encoding."""
    body = body.removeprefix(codecs.BOM_UTF8)
    if wrong := _encoding_fault(body):
        raise MalformedRequest(wrong)
    return body


def _refuse(found: Sequence[ErrorDetails], model: type[BaseModel]) -> NoReturn:
    problems = [failure_of(details, model.model_fields) for details in found]
    raise InvalidInput(summary(problems), problems) from None


def _with_surrogates(body: bytes, judged_later: Collection[str]) -> Any:
    """The body as JSON values. Raises InvalidInput for a lone surrogate that nobody else judges."""
    try:
        value = json.loads(body.decode("utf-8", "surrogatepass"))
    except RecursionError:
        raise MalformedRequest(_why_not_json(body, "it is nested too deeply")) from None
    except ValueError as error:  # not UTF-8, not JSON, or a number of too many digits
        raise MalformedRequest(_why_not_json(body, str(error))) from None
    if not isinstance(value, dict):
        raise MalformedRequest(_why_not_json(body, "a lone surrogate stands outside of an object"))
    for name, content in value.items():
        if lone_surrogate(name) is not None or (name not in judged_later and _holds_surrogate(content)):
            _refuse_surrogate(name)
    return value


def _holds_surrogate(value: object) -> bool:
    if isinstance(value, str):
        return lone_surrogate(value) is not None
    if isinstance(value, Mapping):
        return any(_holds_surrogate(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_holds_surrogate, value))


def _refuse_surrogate(name: str) -> NoReturn:
    field = name[:MAX_SHOWN_CHARS].encode("ascii", "backslashreplace").decode()
    remedy = "send whole characters: the text was cut inside one"
    found = Failure(field, "a lone surrogate", "a string of valid Unicode", remedy)
    raise InvalidInput(f"the request has the wrong form: {field}: got {found.got}; {remedy}", [found])


def _why_not_json(body: bytes, said: str) -> str:
    return _encoding_fault(body) or f"the body is not valid JSON: {said}"


def _encoding_fault(body: bytes) -> str:
    """What the bytes are if they are no UTF-8; nothing if they are."""
    if body.startswith(_GZIP):
        return "the body is gzip and no header says so; send Content-Encoding: gzip, or plain JSON"
    encoding = json.detect_encoding(body)
    if encoding != "utf-8":
        return f"the body is {encoding.upper()}; send JSON as UTF-8"
    try:
        body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        byte = body[error.start]
        return f"the body is not UTF-8: byte 0x{byte:02x} at offset {error.start}; encode the JSON as UTF-8"
    return ""
