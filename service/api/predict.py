"""`POST /v1/predict`: from the body to a job, and from the finished job to the answer.

Knows limits, leases and the shape of the answer; it waits for the engine and gives up when the client leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from failures import Failure

from ..engine.items import is_pair, num_chars_of, num_row_chars_of, num_rows_of
from ..engine.request import Column, Job, ServingCard
from ..errors import (
    ITEM_CODES,
    AdapterUnavailable,
    InvalidInput,
    ItemFailed,
    ServiceError,
    UnknownTask,
)
from ..residency.cache import FailedReference, Lease, Resident, UnknownReference
from ..state import Parts, Service
from . import schemas
from .answers import Prediction, count_outcome, predictions_of
from .body import JSON_TYPES, read_body
from .errors import STATUS_CLIENT_LEFT
from .generation import check_generate
from .reading import read_json
from .routes import PROBLEMS, service_of
from .waiting import is_awaited

if TYPE_CHECKING:
    from modeling import ServedModel

router = APIRouter(tags=["predict"])

# An answer smaller than this (items x labels) is built on the event loop: a thread would cost more.
_SMALL_ANSWER_SCORES = 512
_CHARS_PER_TOKEN = 4  # only the admission's estimate rests on it


_Granted = Lease[ServingCard] | ServiceError  # of a requested task; or why there is none


@router.post(
    "/v1/predict",
    summary="Answer texts with one task or several",
    response_model=None,
    responses={200: {"model": schemas.TaskAnswer | schemas.SeveralAnswers}, **PROBLEMS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schemas.PredictRequest.model_json_schema()}},
        }
    },
)
async def predict(request: Request) -> Response:
    """Every item is answered in its place or carries its own error; one single input fails as a whole."""
    service = service_of(request)
    parts = service.parts
    body = await read_body(
        request, max_bytes=service.settings.max_body_bytes, types=JSON_TYPES, setting="max_body_bytes"
    )
    call = begin(service, parts, body)
    try:
        if not await is_awaited(request.receive, call.job.done):
            service.metrics.cancelled.inc()
            return Response(status_code=STATUS_CLIENT_LEFT)
        return await answer(service, call)
    finally:
        end(parts, call)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A predict call that was admitted: what it asks, a lease or an error for each task, what answers it."""

    ask: schemas.PredictRequest
    granted: Sequence[_Granted]
    job: Job

    @property
    def is_small(self) -> bool:
        """Whether its answer is built at once; only a finished one knows."""
        return sum(column.num_logits for column in self.job.columns) <= _SMALL_ANSWER_SCORES


def begin(service: Service, parts: Parts, body: bytes, ids: Mapping[str, list[int]] | None = None) -> Call:
    """From a body to a call that is under way; `ids` are those of texts in it that are known already.

    Raises what the caller is told; then nothing is held for the call. Else `end` is due.
    """
    settings = service.settings
    ask = parse(body)
    items = ask.inputs if isinstance(ask.inputs, list) else [ask.inputs]
    check_size(ask, items, max_items=settings.max_items, max_tasks=settings.max_tasks)
    granted = acquire_all(parts, ask.references)
    try:
        job = _job(parts, ask, items, granted, settings.max_scores)
        job.ids = ids or {}
        parts.engine.open(job, estimate_tokens(job))
    except BaseException:
        _release(parts, granted)
        raise
    call = Call(ask, granted, job)
    try:
        parts.tokenizer.start(job)
    except BaseException:
        end(parts, call)
        raise
    return call


def end(parts: Parts, call: Call) -> None:
    """Give back what a call holds, whatever became of it."""
    parts.engine.cancel(call.job)  # changes nothing if it is finished
    _release(parts, call.granted)


def _release(parts: Parts, granted: Sequence[_Granted]) -> None:
    for one in granted:
        if isinstance(one, Lease):
            parts.catalog.cache.release(one)


def _job(
    parts: Parts,
    ask: schemas.PredictRequest,
    items: Sequence[object],
    granted: Sequence[_Granted],
    max_scores: int,
) -> Job:
    """The job of a request that may be made to these tasks. Raises InvalidInput for one that may not."""
    residents = [one.resident for one in granted if isinstance(one, Lease)]
    max_new_tokens = check_generate(ask, residents, parts.max_new_tokens)
    check_top_k(ask, residents)
    widths = [0 if max_new_tokens else num_outputs(resident.card, items) for resident in residents]
    told = [
        num_told(one.card, items, ask, width, parts.model)
        for one, width in zip(residents, widths, strict=True)
    ]
    check_scores(sum(told), len(items), max_scores)
    columns = [
        Column.empty(resident.slot, resident.card, len(items), width)
        for resident, width in zip(residents, widths, strict=True)
    ]
    return Job(items, columns, ask.truncate, max_new_tokens)


def parse(body: bytes) -> schemas.PredictRequest:
    """The request in the body. Raises MalformedRequest (not JSON), InvalidInput (with every violation)."""
    return read_json(body, schemas.PredictRequest, judged_later=("inputs",))


def check_size(
    ask: schemas.PredictRequest, items: Sequence[object], *, max_items: int, max_tasks: int
) -> None:
    """Raise InvalidInput if the request has no item, or more items or tasks than allowed."""
    num_tasks = 1 if ask.tasks is None else len(ask.tasks)
    for field, got, most in (("inputs", len(items), max_items), ("tasks", num_tasks, max_tasks)):
        if not 1 <= got <= most:
            remedy = f"send several requests of at most {most}" if got > most else "send at least one"
            found = Failure(field, str(got), f"1 to {most}", remedy)
            raise InvalidInput(f"{field}: got {got}, allowed: 1 to {most}; {remedy}", [found])


def check_scores(num_labels: int, num_items: int, max_scores: int) -> None:
    """Raise InvalidInput if the answer would hold more scores (items x labels of all tasks) than allowed."""
    if num_labels * num_items > max_scores:
        remedy = f"send at most {max(1, max_scores // num_labels)} inputs per request to these tasks"
        found = Failure("inputs", f"{num_items} inputs x {num_labels} labels", f"{max_scores} scores", remedy)
        raise InvalidInput(f"{found.got} are more than {max_scores} scores; {remedy}", [found])


def num_outputs(card: ServingCard, items: Sequence[object]) -> int:
    """Logits per item: one per label, or as many as the item with most choices has."""
    if card.kind.choices:
        return max(map(num_rows_of, items))
    return len(card.spec.labels) or 1  # without labels and without texts: one number


def num_told(
    card: ServingCard,
    items: Sequence[object],
    ask: schemas.PredictRequest,
    width: int,
    model: ServedModel,
) -> int:
    """Numbers of one answer: its `width` outputs, those of every word where logits are asked for, or the
    embedding that a text alone is answered with.
    """
    if card.readout.embeds and not all(map(is_pair, items)):
        return model.backbone.hidden_size
    if not (ask.raw and card.readout.reads_words):
        return width
    return width * min(card.max_tokens, max(1, *map(num_chars_of, items)))


def check_top_k(ask: schemas.PredictRequest, residents: Sequence[Resident[ServingCard]]) -> None:
    """Raise InvalidInput for `top_k` where a task answers with entities, of which none is cut."""
    found = [one.task for one in residents if one.card.readout.reads_words]
    if ask.top_k is None or not found:
        return
    names = ", ".join(found)
    remedy = "leave it out" if len(found) == len(residents) else f"leave it out, or ask {names} separately"
    failure = Failure("top_k", str(ask.top_k), "nothing for a task that answers with entities", remedy)
    raise InvalidInput(f"top_k: {names} answers with entities and has no scores to cut; {remedy}", [failure])


def estimate_tokens(job: Job) -> int:
    """What the rows of a job will cost, from its characters: nothing is tokenised yet."""
    num_rows = sum(map(num_rows_of, job.items))
    num_tokens = num_rows + sum(map(num_row_chars_of, job.items)) // _CHARS_PER_TOKEN
    placements = [column.card.placement for column in job.columns]
    bodies = {placement.body_slot: placement for placement in placements}
    total = sum(num_tokens + num_rows * (one.virtual_tokens + job.max_new_tokens) for one in bodies.values())
    if job.max_new_tokens:
        return total
    return total + sum(
        num_rows * one.decoder_tokens + num_tokens * one.decoder_per_token for one in placements
    )


def acquire_all(parts: Parts, references: Sequence[str]) -> list[_Granted]:
    """A lease, or an error, per reference. Raises the error if not one task of the request is there."""
    granted: list[_Granted] = []
    for reference in references:
        try:
            granted.append(parts.catalog.cache.acquire(reference))
        except UnknownReference as error:
            granted.append(UnknownTask(str(error)))
        except FailedReference as error:
            granted.append(AdapterUnavailable(str(error)))
    if isinstance(granted[0], ServiceError) and not any(isinstance(one, Lease) for one in granted):
        raise granted[0]
    return granted


async def answer(service: Service, call: Call) -> Response:
    """The response to a finished call. Raises the error of a single input that failed, or what broke it."""
    if call.is_small:
        return answer_now(service, call)
    call.job.done.result()
    loop = asyncio.get_running_loop()
    try:
        body = await loop.run_in_executor(service.answering, _body, call.ask, call.granted, call.job.columns)
    finally:
        _count(service, call)
    return _response(call, body)


def answer_now(service: Service, call: Call) -> Response:
    """`answer` where it is called, for a small one."""
    call.job.done.result()
    try:
        body = _body(call.ask, call.granted, call.job.columns)
    finally:
        _count(service, call)
    return _response(call, body)


def _count(service: Service, call: Call) -> None:
    leases = [one for one in call.granted if isinstance(one, Lease)]
    for lease, column in zip(leases, call.job.columns, strict=True):
        count_outcome(service.metrics, lease.resident.task, column)


def _response(call: Call, body: bytes) -> Response:
    headers = {}
    (first, *_) = call.granted
    if call.ask.tasks is None and isinstance(first, Lease):
        headers = {"X-Adapter": first.resident.task, "X-Adapter-Version": str(first.resident.version)}
    return Response(body, headers=headers, media_type="application/json")


def _body(ask: schemas.PredictRequest, granted: Sequence[_Granted], columns: Sequence[Column]) -> bytes:
    """The answer as JSON. Raises the error of one single input that failed."""
    left = iter(columns)
    results: list[dict[str, Any]] = []
    for reference, one in zip(ask.references, granted, strict=True):
        if isinstance(one, ServiceError):
            results.append({"task": reference, "error": {"code": one.code, "message": str(one)}})
            continue
        resident = one.resident
        predictions = predictions_of(next(left), top_k=ask.top_k, raw=ask.raw)
        told = {"task": resident.task, "version": resident.version, "digest": resident.digest}
        results.append({**told, "predictions": predictions})
    if ask.tasks is not None:
        return to_json({"results": results})
    predictions = results[0]["predictions"]
    if len(predictions) == 1 and "error" in predictions[0]:
        raise _single_failure(predictions[0])
    return to_json(results[0])


def _single_failure(prediction: Prediction) -> ServiceError:
    error = prediction["error"]
    if not ITEM_CODES[error["code"]].of_input:
        return ItemFailed(error["message"], error["code"])
    found = Failure(f"inputs.{error['index']}", error["code"], error["message"], "see the message")
    return InvalidInput(error["message"], [found], code=error["code"])
