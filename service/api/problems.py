"""RFC 9457 problem documents. Knows their form; which error becomes which is in `errors.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from ..logs import request_id

MEDIA_TYPE = "application/problem+json"


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    problems: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
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
