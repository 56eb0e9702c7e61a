"""From an HTTP error answer (RFC 9457 or not) to the error of the tree; the only file that maps statuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from trunkline import errors
from trunkline.errors import Problem, TrunklineError

BY_STATUS: Mapping[int, type[TrunklineError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    403: errors.Unauthorized,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.Conflict,
    413: errors.TooLarge,
    415: errors.Invalid,
    422: errors.Invalid,
    429: errors.Overloaded,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}


def problem_error(status: int, headers: Mapping[str, str], body: bytes) -> TrunklineError:
    """The error for a status of 400 or more; the message is the server's own sentence where it gave one."""
    problem = _read(body)
    message = (
        problem.get("detail") or problem.get("title") or f"the server answered {status} without a reason"
    )
    return BY_STATUS.get(status, TrunklineError)(
        str(message),
        status=status,
        code=str(problem.get("code") or ""),
        errors=tuple(_listed(entry) for entry in problem.get("errors") or ()),
        request_id=str(problem.get("request_id") or headers.get("x-request-id", "")),
        retry_after_s=retry_after_s(headers),
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds in the Retry-After header; None without one (or with a date, which our servers do not send)."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _read(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:  # a proxy's page, or nothing
        return {}
    return problem if isinstance(problem, dict) else {}


def _listed(entry: object) -> Problem:
    if not isinstance(entry, Mapping):
        return Problem(message=str(entry))
    return Problem(**{one.name: _text(entry.get(one.name)) for one in fields(Problem)})


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
