"""Tasks, versions and aliases over HTTP: list, upload, promote, roll back, delete."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from adapters_store import (
    FullStore,
    InvalidName,
    NotFound,
    ReadOnlyStore,
    TaskState,
    VersionRecord,
    check_alias,
    check_task_name,
)
from proof.errors import Refused

from ..errors import MalformedRequest, ServiceError
from ..residency.cache import DEFAULT_ALIAS
from ..state import Parts
from . import schemas
from .body import FILE_TYPES, read_body
from .routes import PROBLEMS, JsonRoute, service_of

router = APIRouter(prefix="/v1/tasks", tags=["tasks"], responses=PROBLEMS, route_class=JsonRoute)
log = logging.getLogger(__name__)

TaskName = Annotated[str, Path(description="the task's name")]
VersionNumber = Annotated[int, Path(ge=1, le=999_999_999, description="a version's number")]
MAX_LISTED_TASKS = 1_000
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,10})"')


@router.get("", summary="The tasks, page by page")
async def list_tasks(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED_TASKS, description="most tasks of a page")] = 100,
    after: Annotated[str, Query(max_length=64, description="`next` of the last page; empty: the first")] = "",
    q: Annotated[str, Query(max_length=64, description="a part of the names; empty: all tasks")] = "",
) -> schemas.TaskList:
    """In the order of their names, with versions, aliases, and what could not be loaded."""
    parts = service_of(request).parts
    states, following = parts.catalog.page(after, limit, q.strip().lower())
    return schemas.TaskList(tasks=[_task_info(parts, state) for state in states], next=following)


@router.get("/{task}", summary="One task")
async def get_task(request: Request, response: Response, task: TaskName) -> schemas.TaskInfo:
    """Its ETag is what If-Match takes when an alias is moved."""
    parts = service_of(request).parts
    return _tagged(response, parts, parts.catalog.task(check_task_name(task)))


@router.get("/{task}/versions/{version}", summary="One version")
async def get_version(request: Request, task: TaskName, version: VersionNumber) -> schemas.VersionInfo:
    """What it is, and whether it is resident."""
    parts = service_of(request).parts
    for record in parts.catalog.task(check_task_name(task)).versions:
        if record.version == version:
            return _version_info(parts, task, record)
    raise NotFound(f"task {task!r} has no version {version}")


@router.post(
    "/{task}/versions",
    status_code=201,
    summary="Upload an adapter file",
    responses={
        200: {"model": schemas.UploadAnswer, "description": "These bytes were a live version already"}
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    request: Request,
    response: Response,
    task: TaskName,
    alias: Annotated[str, Query(description="alias to point at it; empty: none")] = DEFAULT_ALIAS,
) -> schemas.UploadAnswer:
    """The bytes of a .safetensors file, checked and with its probes replayed before it becomes visible."""
    service = service_of(request)
    parts = service.parts
    check_task_name(task)
    if alias:
        check_alias(alias)
    parts.catalog.require_writable()
    data = await read_body(
        request, max_bytes=service.settings.max_adapter_bytes, types=FILE_TYPES, setting="max_adapter_bytes"
    )
    try:
        published, candidate, probes = await parts.catalog.upload(task, data, alias=alias or None)
    except (ServiceError, InvalidName, ReadOnlyStore, FullStore, Refused) as error:
        service.metrics.uploads.labels("refused" if isinstance(error, Refused) else "failed").inc()
        log.warning("upload refused", extra={"task": task, "bytes": len(data), "reason": str(error)[:500]})
        raise
    service.metrics.uploads.labels("created" if published.created else "known").inc()
    log.info("upload", extra={"task": task, "version": published.version, "digest": published.digest})
    if not published.created:
        response.status_code = 200
    prefix = request.scope.get("root_path", "")
    response.headers["Location"] = f"{prefix}/v1/tasks/{task}/versions/{published.version}"
    response.headers["ETag"] = _etag(published.state)
    return schemas.UploadAnswer(
        task=task,
        version=published.version,
        digest=published.digest,
        size_bytes=candidate.size_bytes,
        method=candidate.manifest.method.name,
        kind=candidate.manifest.head.kind,
        labels=list(candidate.manifest.head.labels),
        aliases=dict(published.state.aliases),
        probes=schemas.ProbeInfo(
            count=probes.count,
            max_difference=probes.max_difference,
            pending=probes.pending,
        ),
    )


@router.put("/{task}/aliases/{alias}", summary="Point an alias at a version")
async def put_alias(
    request: Request,
    response: Response,
    task: TaskName,
    alias: str,
    target: Annotated[schemas.AliasTarget, Body()],
    if_match: Annotated[
        str | None, Header(description="the task's ETag: refuse if it has changed since")
    ] = None,
) -> schemas.TaskInfo:
    """At once for new requests; running ones keep the version they began with."""
    parts = service_of(request).parts
    check_task_name(task)
    state = await parts.catalog.set_alias(
        task, check_alias(alias), target.version, expected_revision(if_match)
    )
    log.info("alias", extra={"task": task, "alias": alias, "version": target.version})
    return _tagged(response, parts, state)


@router.post("/{task}/rollback", summary="Back to the previous version")
async def rollback(request: Request, response: Response, task: TaskName) -> schemas.TaskInfo:
    """Swaps production and previous; doing it twice changes nothing."""
    parts = service_of(request).parts
    state = await parts.catalog.rollback(check_task_name(task))
    log.info("rollback", extra={"task": task, "version": state.aliases.get(DEFAULT_ALIAS)})
    return _tagged(response, parts, state)


@router.delete("/{task}", status_code=204, summary="Delete a task")
async def delete_task(request: Request, task: TaskName) -> None:
    """With all its versions. Running requests are answered; the numbers are never used again."""
    await service_of(request).parts.catalog.delete_task(check_task_name(task))
    log.info("task deleted", extra={"task": task})


@router.delete("/{task}/versions/{version}", status_code=204, summary="Delete a version")
async def delete_version(request: Request, task: TaskName, version: VersionNumber) -> None:
    """Not the one in production. Running requests are answered."""
    await service_of(request).parts.catalog.delete_version(check_task_name(task), version)
    log.info("version deleted", extra={"task": task, "version": version})


def expected_revision(if_match: str | None) -> int | None:
    """The revision that If-Match names; None for no header or `*`. Raises MalformedRequest."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise MalformedRequest(
            f'If-Match is {if_match[:80]!r}; allowed: the ETag of the task, such as "7", or *'
        )
    return int(match[1])


def _etag(state: TaskState) -> str:
    return f'"{state.revision}"'


def _tagged(response: Response, parts: Parts, state: TaskState) -> schemas.TaskInfo:
    response.headers["ETag"] = _etag(state)
    return _task_info(parts, state)


def _task_info(parts: Parts, state: TaskState) -> schemas.TaskInfo:
    return schemas.TaskInfo(
        task=state.task,
        revision=state.revision,
        production=state.aliases.get(DEFAULT_ALIAS),
        aliases=dict(state.aliases),
        versions=[_version_info(parts, state.task, record) for record in state.versions],
    )


def _version_info(parts: Parts, task: str, record: VersionRecord) -> schemas.VersionInfo:
    resident = parts.catalog.cache.get(task, record.version)
    known: dict[str, Any] = {}
    if resident is not None:
        card = resident.card
        known = {
            "method": card.method,
            "kind": card.spec.kind,
            "labels": list(card.spec.labels),
            "max_new_tokens": card.spec.max_new_tokens,
            "abstain": None if card.spec.abstain is None else asdict(card.spec.abstain),
            "fields": list(card.fields),
            "max_tokens": card.max_tokens,
            "example": card.example,
            "reads": card.reads,
        }
    return schemas.VersionInfo(
        version=record.version,
        digest=record.digest,
        size_bytes=record.size_bytes,
        created=record.created,
        state="failed" if resident is None else "resident",
        reason=parts.catalog.cache.failure(task, record.version),
        **known,
    )
