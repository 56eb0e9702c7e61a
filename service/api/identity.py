"""The id of a request: its caller's, or a new one. Knows headers alone."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

_random = random.Random()  # noqa: S311 - an id is no secret, and need not cost a system call
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def identity_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The caller's request id if it is a sane one, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"%016x" % _random.getrandbits(64)
