"""The one place where errors become HTTP: status and title by class.

Messages come from the errors; no text of a request does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import adapters_store as store
from proof.errors import Refused

from .. import errors
from .problems import problem
from .violations import failure_of, summary

log = logging.getLogger(__name__)

RETRY_AFTER_STARTING_S = 1
STATUS_CLIENT_LEFT = 499  # nobody reads it; the log and the metrics do

_OWN = errors.ServiceError.__subclasses__()
# class -> status, code, title; the first match in this order counts
_TABLE: tuple[tuple[type[Exception], int, str, str], ...] = (
    *((own, own.status, own.code, own.title) for own in _OWN if own.code != "internal"),
    (errors.ServiceError, 500, "internal", "Internal error"),
    (store.NotFound, 404, "not_found", "Not found"),
    (store.PreconditionFailed, 412, "precondition_failed", "Changed in the meantime"),
    (store.Conflict, 409, "conflict", "Conflict"),
    (store.InvalidName, 422, "invalid_name", "Invalid name"),
    (store.AdapterFileError, 422, "adapter_refused", "Adapter refused"),
    (Refused, 422, "adapter_refused", "Adapter refused"),
    (store.ReadOnlyStore, 403, "store_read_only", "Read-only store"),
    (store.FullStore, 507, "store_full", "No room in the store"),
    (store.Corrupt, 500, "corrupt", "Stored data is damaged"),
    (store.StoreError, 500, "store", "Store error"),
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def response_of(error: Exception) -> Response:
    """The response that an error becomes; an unknown one is logged and says nothing of its inside."""
    for kind, status, usual_code, title in _TABLE:
        if isinstance(error, kind):
            code = getattr(error, "code", usual_code)  # a single input's own reason, if there is one
            detail = str(error)
            if status >= 500 and status not in (503, 507):
                log.error("request failed", extra={"code": code, "detail": detail})
            problems = [asdict(failure) for failure in getattr(error, "failures", ())]
            return problem(status, code, title, detail, problems, _headers_of(error))
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


async def on_http(request: Request, error: Exception) -> Response:
    """For what the router refuses: no such route, no such method."""
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "http")
    detail = str(error.detail)
    if error.status_code == 404:
        detail = (
            f"no such route; see {request.scope.get('root_path', '')}/docs. "
            "Task names are 1 to 64 characters of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or a digit: never a path"
        )
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":  # the envelope answers HEAD wherever GET is
        headers["Allow"] = "GET, HEAD"
    return problem(error.status_code, code, str(error.detail), detail, headers=headers)


def _headers_of(error: Exception) -> dict[str, str] | None:
    if isinstance(error, errors.Overloaded):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, errors.NotReady | errors.Draining):
        return {"Retry-After": str(RETRY_AFTER_STARTING_S)}
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.UnsupportedMedia) and error.accept_encoding:
        return {"Accept-Encoding": error.accept_encoding}
    return None
