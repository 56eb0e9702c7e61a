"""From the raw items of a request to rows: validated, tokenised and truncated.

A few short texts become rows where they came in, which is the event loop. Every other job is worked through
off it, in chunks, each chunk queued behind those of other jobs, so that a large job does not hold up a small
one and the device starts on its first rows while the rest is still text. Each text is tokenised once, however
many tasks read it and however many choices it comes with; tasks without a body share one row per text. K
choices of an item become K rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from ..metrics import Metrics
from .items import Item, are_short, chunk_end, parse_item, too_long, wrong_form
from .request import ItemError, Job, Marked, Row

if TYPE_CHECKING:
    from modeling import Encoded, EncodedRow, TextItem, Tokens

    from .request import Column


class Text(Protocol):
    """What is needed of `modeling.TextEncoder`; thread-safe."""

    def tokenize(self, items: Sequence[TextItem], *, words: bool = False) -> list[Tokens]: ...
    def assemble(self, tokens: Tokens, max_tokens: int | None = None) -> Encoded: ...


class Queue(Protocol):
    """What is needed of the engine."""

    def add(self, job: Job, rows: Sequence[Row], *, last: bool) -> None: ...
    def cancel(self, job: Job, failure: BaseException | None = None) -> None: ...


class Tokenizer:
    """Turns jobs into rows on a few threads and hands them to the queue."""

    def __init__(
        self, text: Text, queue: Queue, metrics: Metrics, *, num_threads: int, max_text_chars: int
    ) -> None:
        self._text, self._queue, self._metrics = text, queue, metrics
        self._max_text_chars = max_text_chars
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="tokenizer")

    def start(self, job: Job) -> None:
        """Begin with an admitted job; returns at once, or with the rows of a few short texts queued."""
        if are_short(job.items, len(job.columns)):
            self._step(job, 0, len(job.items))
        else:
            self._pool.submit(self._step, job, 0)

    def close(self) -> None:
        """End the threads after what they are doing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _step(self, job: Job, start: int, end: int | None = None) -> None:
        """One chunk, to `end` or as far as it may go; the next one goes to the back of the pool's queue."""
        if job.finished:
            return
        try:
            end = chunk_end(job.items, start) if end is None else end
            self._chunk(job, start, end)
            if end < len(job.items):
                self._pool.submit(self._step, job, end)
        except BaseException as error:
            self._queue.cancel(job, error)

    def _chunk(self, job: Job, start: int, end: int) -> None:
        items: list[tuple[int, Item, list[TextItem]]] = []
        for index in range(start, end):
            item = parse_item(job.items[index], index, self._max_text_chars)
            if isinstance(item, ItemError):
                for column in job.columns:
                    column.errors[index] = item
            else:
                items.append((index, item, item.rows))
        texts = [text for _, _, own in items for text in own]
        words = any(column.card.readout.reads_words for column in job.columns)
        tokens = iter(self._tokens(job, texts, words=words) if texts else ())
        rows: list[Row] = []
        for index, item, own in items:
            rows += self._rows(job, index, item, [next(tokens) for _ in own])
        self._queue.add(job, rows, last=end == len(job.items))

    def _tokens(self, job: Job, texts: Sequence[TextItem], *, words: bool) -> list[Tokens]:
        """Texts as ids, which a front may have sent along; words it does not know."""
        if job.ids and not words and (known := _known(job.ids, texts)):
            return known
        started_s = time.perf_counter()
        tokens = self._text.tokenize(texts, words=words)
        self._metrics.tokenize.observe(time.perf_counter() - started_s)
        return tokens

    def _rows(self, job: Job, index: int, item: Item, variants: Sequence[Tokens]) -> list[Row]:
        """The rows of one item: one per choice, body slot and lengths, read by the heads of its columns."""
        rows: dict[tuple[int, tuple[int, ...], int], Row] = {}
        known: dict[tuple[bool, int], list[EncodedRow]] = {}
        for number, column in enumerate(job.columns):
            readout, limit = column.card.readout, column.card.max_tokens
            encoded = known.get((readout.apart, limit))
            if encoded is None:
                encoded = [readout.assemble(self._text, tokens, limit) for tokens in variants]
                known[readout.apart, limit] = encoded
            error = _enter(job, column, index, item, encoded)
            if error is not None:
                column.errors[index] = error
                continue
            for choice, one in enumerate(encoded):
                key = column.card.placement.body_slot, tuple(map(len, one.parts)), choice
                row = rows.get(key)
                if row is None:
                    whole = item.choices is None
                    row = rows[key] = Row(job, index, one, key[0], None if whole else choice)
                row.read_by(number, column)
        return list(rows.values())


def _known(ids: Mapping[str, list[int]], texts: Sequence[TextItem]) -> list[Tokens] | None:
    """What `ids` has of texts; None if it lacks one."""
    from modeling import Tokens

    try:
        return [
            Tokens(ids[text], None) if isinstance(text, str) else Tokens(ids[text[0]], ids[text[1]])
            for text in texts
        ]
    except KeyError:
        return None


def _enter(
    job: Job, column: Column, index: int, item: Item, encoded: Sequence[EncodedRow]
) -> ItemError | None:
    """Enter what one task will say of an item beside its answer; or return why there will be none."""
    error = wrong_form(column.card, item, index)
    if error is not None:
        return error
    num_tokens, truncated = max(one.num_tokens for one in encoded), any(one.truncated for one in encoded)
    if truncated and not job.truncate:
        return too_long(num_tokens, column.card.max_tokens, index)
    column.num_tokens[index], column.truncated[index] = num_tokens, truncated
    if item.choices is not None:
        column.choices[index] = item.choices
    if column.card.readout.reads_words:
        column.marked[index] = Marked(
            item.text, [(word.start, word.end) for word in encoded[0].parts[0].words]
        )
    return None
