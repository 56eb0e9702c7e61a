"""The one place where errors become HTTP: status and title by class, and RFC 9457 problem documents.

Nothing else in the service knows statuses of failures. Messages come from the errors; no text of a request
does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails, to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from adapters_store import (
    AdapterFileError,
    Conflict,
    Corrupt,
    InvalidName,
    NotFound,
    PreconditionFailed,
    StoreError,
)
from failures import Failure
from proof.errors import Refused

from .. import errors
from ..logs import request_id
from .violations import failure_of, summary

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_STARTING_S = 1
STATUS_CLIENT_LEFT = 499  # nobody reads it; the log and the metrics do

# class -> status, code (None: the error's own), title; the first match in this order counts
_TABLE: tuple[tuple[type[Exception], int, str | None, str], ...] = (
    (errors.MalformedRequest, 400, None, "Malformed request"),
    (errors.Unauthorized, 401, None, "Not authorised"),
    (errors.CrossSite, 403, None, "Request of another site"),
    (errors.UnknownTask, 404, None, "Unknown task"),
    (errors.TooLarge, 413, None, "Body too large"),
    (errors.UnsupportedMedia, 415, None, "Unsupported content type"),
    (errors.InvalidInput, 422, None, "Invalid input"),
    (errors.Overloaded, 429, None, "Too many requests"),
    (errors.AdapterUnavailable, 503, None, "Adapter not available"),
    (errors.NotReady, 503, None, "Not ready"),
    (errors.Draining, 503, None, "Stopping"),
    (errors.RegistryFull, 507, None, "Registry full"),
    (errors.ServiceError, 500, None, "Internal error"),
    (NotFound, 404, "not_found", "Not found"),
    (PreconditionFailed, 412, "precondition_failed", "Changed in the meantime"),
    (Conflict, 409, "conflict", "Conflict"),
    (InvalidName, 422, "invalid_name", "Invalid name"),
    (AdapterFileError, 422, "adapter_refused", "Adapter refused"),
    (Refused, 422, "adapter_refused", "Adapter refused"),
    (Corrupt, 500, "corrupt", "Stored data is damaged"),
    (StoreError, 500, "store", "Store error"),
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    problems: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document as a response."""
    body: dict[str, Any] = {
        "type": f"urn:trunkline:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id.get(),
    }
    if problems:
        body["errors"] = list(problems)
    return Response(to_json(body), status, headers, media_type=MEDIA_TYPE)


def response_of(error: Exception) -> Response:
    """The response that an error becomes; an unknown one is logged and says nothing of its inside."""
    for kind, status, code, title in _TABLE:
        if isinstance(error, kind):
            own_code = code or str(getattr(error, "code", "internal"))
            if status >= 500 and status not in (503, 507):
                log.error("request failed", extra={"code": own_code, "detail": str(error)})
            return problem(
                status, own_code, title, str(error), problems=_problems_of(error), headers=_headers_of(error)
            )
    log.error("request failed", exc_info=error)
    detail = "the request failed for a reason of ours; its id finds the reason in the log"
    return problem(500, "internal", "Internal error", detail)


async def on_error(_: Request, error: Exception) -> Response:
    """For errors of this package and of the store."""
    return response_of(error)


async def on_invalid(_: Request, error: Exception) -> Response:
    """For parameters that FastAPI refuses."""
    assert isinstance(error, RequestValidationError)
    found: Sequence[ErrorDetails] = error.errors()
    if any(details["type"] == "json_invalid" for details in found):
        return response_of(errors.MalformedRequest("the body is not valid JSON"))
    problems = [failure_of(details) for details in found]
    return response_of(errors.InvalidInput(summary(problems), problems))


async def on_http(_: Request, error: Exception) -> Response:
    """For what the router refuses: no such route, no such method."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "http")
    detail = str(error.detail)
    if error.status_code == 404:
        detail = (
            "no such route; see /docs. Task names are 1 to 64 characters of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or a digit: never a path"
        )
    return problem(error.status_code, code, str(error.detail), detail, headers=error.headers)


def _problems_of(error: Exception) -> list[dict[str, str]]:
    found: Sequence[Failure] = getattr(error, "failures", ())
    return [asdict(failure) for failure in found]


def _headers_of(error: Exception) -> dict[str, str] | None:
    if isinstance(error, errors.Overloaded):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, errors.NotReady | errors.Draining):
        return {"Retry-After": str(RETRY_AFTER_STARTING_S)}
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return None
