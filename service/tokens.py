"""What a bearer token may be, on both ends: it travels in a header. Pure; knows no file and no setting."""

from __future__ import annotations

import re

MIN_CHARS = 8

# What editors, `echo` and mounted secrets put around it; the last one is a byte order mark.
_OUTER = " \t\r\n\v\f\ufeff"
_UNSENDABLE = re.compile(r"[^!-~]")
_QUOTES = "\"'"


def trimmed(text: str) -> str:
    """The token without what stands around it."""
    return text.strip(_OUTER)


def fault_of(token: str) -> str:
    """Why a token cannot be sent, as the end of a sentence that does not quote it; nothing if it can."""
    found = _UNSENDABLE.search(token)
    if found is None:
        is_quoted = len(token) > 1 and token[0] == token[-1] and token[0] in _QUOTES
        return "stands in quotes, which would be part of it: write it without" if is_quoted else ""
    place = found.start() + 1
    if not found[0].isascii():
        return f"has a character that is not ASCII (character {place})"
    if found[0].isspace():
        return f"has white space inside (character {place})"
    return f"has a control character (character {place})"
