"""The one thread that owns the device: it runs whatever waits when the device gets free, and hands it out.

There is no timer and no global "active adapter". Everything else (loading adapters, replaying probes) reaches
the model as a call that runs on this thread, between two batches.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import NotReady, Overloaded
from ..metrics import Metrics
from .request import ItemError, Job, Row
from .runner import Model, Outcome, RowFailure, run_rows
from .scheduler import QueueFull, Scheduler

ModelT = TypeVar("ModelT", bound=Model)
ResultT = TypeVar("ResultT")

log = logging.getLogger(__name__)


def _unprepared(num_tokens: int | None) -> None:
    """A device that needs nothing set before a pass."""


class _Call:
    """A function waiting to run on the device thread, and its future."""

    def __init__(self, function: Callable[[Model], Any]) -> None:
        self.function, self.future = function, Future[Any]()

    def run(self, model: Model) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.function(model))
        except BaseException as error:
            self.future.set_exception(error)


class Engine:
    """One thread owns the model. Public methods are thread-safe and return at once.

    `prepare` is called on that thread before each pass with its number of tokens, and with None before calls.
    """

    def __init__(
        self,
        scheduler: Scheduler[Row],
        metrics: Metrics,
        prepare: Callable[[int | None], None] = _unprepared,
    ) -> None:
        self.scheduler, self._metrics, self._prepare = scheduler, metrics, prepare
        self._wake = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._tokens_per_s = 0.0

    # ---- life

    def start(self, build: Callable[[], ModelT]) -> Future[ModelT]:
        """Start the thread; it builds the model there. The future fails if `build` does."""
        assert self._thread is None, "the engine was started twice; this is a bug"
        built: Future[ModelT] = Future()
        self._thread = threading.Thread(target=self._live, args=(build, built), name="device", daemon=True)
        self._thread.start()
        return built

    def stop(self, timeout_s: float) -> bool:
        """Finish everything that is queued, then end the thread; False if that took longer than allowed."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    # ---- work

    def call(self, function: Callable[[Model], ResultT]) -> Future[ResultT]:
        """Run a function with the model on the device thread, before the next batch."""
        call = _Call(function)
        with self._wake:
            if self._stopping or self._thread is None:
                raise NotReady("the engine does not run")
            self._calls.append(call)
            self._wake.notify()
        return call.future

    def open(self, job: Job, estimate_tokens: int) -> None:
        """Admit a job. Raises Overloaded with the time after which to come back."""
        with self._wake:
            if self._stopping:
                raise NotReady("the engine is stopping")
            try:
                self.scheduler.open(job.number, estimate_tokens)
            except QueueFull as full:
                raise self._overloaded(full) from None
        job.queued_at_s = time.perf_counter()

    def add(self, job: Job, rows: Sequence[Row], *, last: bool) -> None:
        """Queue rows of an admitted job; `last` says that no more will come."""
        with self._wake:
            if job.finished:
                return
            if rows:
                job.num_pending += len(rows)
                self.scheduler.add(job.number, rows)
                self._wake.notify()
            if last:
                job.closed = True
                self.scheduler.close(job.number)
            finished = self._finish_if_done(job)
        if finished:
            job.done.set_result(None)

    def cancel(self, job: Job, failure: BaseException | None = None) -> None:
        """Drop what still waits of a job; with a failure it is done, else nobody listens any more.

        After this returns, no row of the job is queued; a batch already on the device ends before any later
        call.
        """
        with self._wake:
            if job.finished:
                return
            job.finished = True
            self.scheduler.cancel(job.number)
        if failure is not None:
            job.done.set_exception(failure)

    # ---- the thread

    def _live(self, build: Callable[[], ModelT], built: Future[ModelT]) -> None:
        try:
            self._prepare(None)
            model = build()
        except BaseException as error:
            built.set_exception(error)
            return
        built.set_result(model)
        while self._step(model):
            pass

    def _step(self, model: Model) -> bool:
        """Wait for work and do it, calls before the next batch; False when stopped and nothing is left."""
        with self._wake:
            while not (self._calls or self.scheduler.waiting_rows or self._stopping):
                self._wake.wait()
            calls = list(self._calls)
            self._calls.clear()
        if calls:
            self._prepare(None)
        for call in calls:
            call.run(model)
        with self._wake:  # only now, so that a batch has what came while the calls ran
            batch = self.scheduler.next_batch()
            if not (batch or calls or self.scheduler.num_open):
                return False
            if not batch and self._stopping:  # a job is still being tokenised
                self._wake.wait(0.01)
        if batch:
            self._run(model, batch)
        return True

    def _run(self, model: Model, batch: list[Row]) -> None:
        started_s = time.perf_counter()
        self._prepare(sum(row.num_tokens for row in batch))
        try:
            outcomes = run_rows(model, batch, self._on_failure)
        except BaseException as error:  # run_rows swallows what a batch can raise: this is a bug of ours
            log.exception("a batch was lost")
            outcomes = [RowFailure("internal", f"the batch was lost ({type(error).__name__})")] * len(batch)
        seconds = time.perf_counter() - started_s
        for job in self._deliver(batch, outcomes):
            job.done.set_result(None)
        self._observe(batch, started_s, seconds)

    def _on_failure(self, code: str, error: Exception, rows: Sequence[Row]) -> None:
        self._metrics.device_failures.labels(code).inc()
        told = {"code": code, "rows": len(rows), "requests": sorted({row.job.request_id for row in rows})[:8]}
        log.warning("a pass failed", extra=told, exc_info=error)

    def _deliver(self, batch: list[Row], outcomes: list[Outcome]) -> list[Job]:
        """Write what came out, and errors, into the jobs' columns; returns the jobs that are finished now."""
        done: dict[int, tuple[Job, int]] = {}
        for row, outcome in zip(batch, outcomes, strict=True):
            job, columns = row.job, row.job.columns
            if isinstance(outcome, RowFailure):
                for column in row.columns:
                    columns[column].errors[row.item] = ItemError(outcome.code, str(outcome), row.item)
            else:
                for column, value in zip(row.columns, outcome, strict=True):
                    columns[column].put(row, value)
            done[job.number] = (job, done.get(job.number, (job, 0))[1] + 1)
        with self._wake:
            for job, num_rows in done.values():
                job.num_pending -= num_rows
            return [job for job, _ in done.values() if self._finish_if_done(job)]

    def _finish_if_done(self, job: Job) -> bool:
        if job.finished or not job.closed or job.num_pending:
            return False
        job.finished = True
        return True

    def _observe(self, batch: list[Row], started_s: float, seconds: float) -> None:
        num_tokens = sum(row.num_tokens for row in batch)
        rate = num_tokens / max(seconds, 1e-6)
        self._tokens_per_s = rate if not self._tokens_per_s else 0.9 * self._tokens_per_s + 0.1 * rate
        metrics = self._metrics
        metrics.passes.labels(_kind(batch[0])).inc()
        metrics.batch_rows.observe(len(batch))
        metrics.batch_tokens.observe(num_tokens)
        metrics.batch_adapters.observe(len({slot for row in batch for slot in row.slots}))
        metrics.compute.observe(seconds)
        for row in batch:
            if row.job.queued_at_s:  # its job's first batch
                metrics.wait.observe(started_s - row.job.queued_at_s)
                row.job.queued_at_s = 0.0

    def _overloaded(self, full: QueueFull) -> Overloaded:
        rate = self._tokens_per_s or 1000.0
        retry_after_s = min(60, max(1, round(full.charged_tokens / rate)))
        self._metrics.rejected.labels("overloaded").inc()
        return Overloaded(f"the queue is full: {full}; try again in {retry_after_s} s", retry_after_s)


def _kind(row: Row) -> str:
    """What the batch of a row is counted as: generated texts, the rows of one exclusive adapter, or mixed."""
    if row.job.max_new_tokens:
        return "generate"
    return "mixed" if row.group is None else "exclusive"
