"""From the raw items of a request to rows: validated, tokenised and truncated off the event loop.

A job is worked through in chunks, each chunk queued behind those of other jobs, so that a large job does not
hold up a small one and the device starts on its first rows while the rest is still text. Each text is
tokenised once, however many tasks read it; tasks without a body share one row per text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from ..metrics import Metrics
from .request import Column, ItemError, Job, Row

if TYPE_CHECKING:
    from modeling import Encoded, TextItem, Tokens

CHUNK_TEXTS = 256
CHUNK_CHARS = 262_144

_ITEM_FORM = 'a string, or an object {"text": string, "text_pair": string}'


class Text(Protocol):
    """What is needed of `modeling.TextEncoder`; thread-safe."""

    def tokenize(self, items: Sequence[TextItem]) -> list[Tokens]:
        """The slow part."""

    def assemble(self, tokens: Tokens, max_tokens: int | None = None) -> Encoded:
        """Special tokens and truncation."""


class Queue(Protocol):
    """What is needed of the engine."""

    def add(self, job: Job, rows: Sequence[Row], *, last: bool) -> None:
        """Queue rows of a job."""

    def cancel(self, job: Job, failure: BaseException | None = None) -> None:
        """Drop a job."""


class Tokenizer:
    """Turns jobs into rows on a few threads and hands them to the queue."""

    def __init__(
        self, text: Text, queue: Queue, metrics: Metrics, *, num_threads: int, max_text_chars: int
    ) -> None:
        self._text, self._queue, self._metrics = text, queue, metrics
        self._max_text_chars = max_text_chars
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="tokenizer")

    def start(self, job: Job) -> None:
        """Begin with an admitted job; returns at once."""
        self._pool.submit(self._step, job, 0)

    def close(self) -> None:
        """End the threads after what they are doing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _step(self, job: Job, start: int) -> None:
        """One chunk; the next one goes to the back of the pool's queue."""
        if job.finished:
            return
        try:
            end = chunk_end(job.items, start)
            self._chunk(job, start, end)
            if end < len(job.items):
                self._pool.submit(self._step, job, end)
        except BaseException as error:
            self._queue.cancel(job, error)

    def _chunk(self, job: Job, start: int, end: int) -> None:
        started_s = time.perf_counter()
        indices: list[int] = []
        texts: list[TextItem] = []
        for index in range(start, end):
            text = parse_item(job.items[index], index, self._max_text_chars)
            if isinstance(text, ItemError):
                for column in job.columns:
                    column.errors[index] = text
            else:
                indices.append(index)
                texts.append(text)
        tokens = self._text.tokenize(texts) if texts else []
        rows: list[Row] = []
        for index, text, ids in zip(indices, texts, tokens, strict=True):
            rows += self._rows(job, index, ids, is_pair=not isinstance(text, str))
        self._metrics.tokenize.observe(time.perf_counter() - started_s)
        self._queue.add(job, rows, last=end == len(job.items))

    def _rows(self, job: Job, index: int, tokens: Tokens, *, is_pair: bool) -> list[Row]:
        """The rows of one text: one per body slot and length, each read by the heads of its columns."""
        rows: dict[tuple[int, int], Row] = {}
        by_limit: dict[int, Encoded] = {}
        for number, column in enumerate(job.columns):
            error = _wrong_fields(column, index, is_pair=is_pair)
            if error is not None:
                column.errors[index] = error
                continue
            limit = column.card.max_tokens
            encoded = by_limit.get(limit)
            if encoded is None:
                encoded = by_limit[limit] = self._text.assemble(tokens, limit)
            if encoded.truncated and not job.truncate:
                column.errors[index] = _too_long(encoded.num_tokens, limit, index)
                continue
            column.num_tokens[index], column.truncated[index] = encoded.num_tokens, encoded.truncated
            key = column.card.body_slot, len(encoded.ids)
            row = rows.get(key)
            if row is None:
                rows[key] = Row(job, index, encoded, key[1], key[0], (column.slot,), (number,))
            else:
                row.slots, row.columns = (*row.slots, column.slot), (*row.columns, number)
        return list(rows.values())


def chunk_end(items: Sequence[object], start: int) -> int:
    """Where the chunk that begins at `start` ends: bounded in texts and, after the first, in characters."""
    num_chars = 0
    for index in range(start, min(start + CHUNK_TEXTS, len(items))):
        num_chars += num_chars_of(items[index])
        if num_chars > CHUNK_CHARS and index > start:
            return index
    return min(start + CHUNK_TEXTS, len(items))


def num_chars_of(item: object) -> int:
    """Characters of a raw item; 0 for what is not one."""
    if isinstance(item, str):
        return len(item)
    if isinstance(item, dict):
        return sum(len(value) for value in item.values() if isinstance(value, str))
    return 0


def parse_item(item: object, index: int, max_text_chars: int) -> TextItem | ItemError:
    """The text or pair that a raw item holds, or why it holds none."""
    if isinstance(item, str):
        text: TextItem = item
        num_chars = len(item)
    else:
        pair = _fields_of(item, index)
        if isinstance(pair, ItemError):
            return pair
        first, second = pair
        text = first if second is None else (first, second)
        num_chars = len(first) + len(second or "")
    if num_chars > max_text_chars:
        message = (
            f"inputs[{index}] has {num_chars} characters; allowed: {max_text_chars}, also with truncate. "
            "Send the part that matters"
        )
        return ItemError("too_long", message, index, (("chars", num_chars), ("limit", max_text_chars)))
    return text


def _fields_of(item: object, index: int) -> tuple[str, str | None] | ItemError:
    if not isinstance(item, dict):
        return _invalid(index, f"is {_json_type(item)}; allowed: {_ITEM_FORM}")
    unknown = sorted(str(key)[:40] for key in item if key not in ("text", "text_pair"))
    if unknown:
        return _invalid(index, f"has the unknown field {unknown[0]!r}; allowed: {_ITEM_FORM}")
    first, second = item.get("text"), item.get("text_pair")
    if not isinstance(first, str):
        got = _json_type(first) if "text" in item else "missing"
        return _invalid(index, f"has a text that is {got}; allowed: {_ITEM_FORM}")
    if second is not None and not isinstance(second, str):
        return _invalid(index, f"has a text_pair that is {_json_type(second)}; allowed: a string")
    return first, second


def _invalid(index: int, what: str) -> ItemError:
    return ItemError("invalid_item", f"inputs[{index}] {what}", index)


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a string")


def _wrong_fields(column: Column, index: int, *, is_pair: bool) -> ItemError | None:
    fields = column.card.fields
    if is_pair and len(fields) == 1:
        message = f"inputs[{index}] has a text_pair, but this task reads one text ({fields[0]}); leave it out"
        return ItemError("text_pair_not_allowed", message, index)
    if not is_pair and len(fields) != 1:
        message = (
            f"inputs[{index}] has no text_pair, but this task reads two texts ({', '.join(fields)}); "
            'send {"text": "…", "text_pair": "…"}'
        )
        return ItemError("text_pair_required", message, index)
    return None


def _too_long(num_tokens: int, limit: int, index: int) -> ItemError:
    message = (
        f"inputs[{index}] has {num_tokens} tokens; allowed: {limit}. "
        'Send a shorter text, or "truncate": true to have its end cut'
    )
    return ItemError("too_long", message, index, (("tokens", num_tokens), ("limit", limit)))
