"""Which waiting rows form the next batch, and when the queue is full.

Pure: no tensors, no clock, no threads (the engine holds the lock). A *request* opens with an estimate of its
tokens, adds rows as they are tokenised, and closes. Batches take rows round-robin over the requests, so that
a job of 10,000 texts cannot delay a single call by more than its share; the request whose last turn is
longest ago is always in the next batch.

Admission counts what a newcomer would wait for, not what is queued: because rows are taken in turns, one
request delays others by at most its share, so it is charged min(estimate, `max_charge_tokens`). The sum of
the charges of the open requests never exceeds `max_waiting_tokens`, whatever the shape of the requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

# Requests whose next row does not fit are passed over; after this many the batch is full enough.
_MAX_PASSED_OVER = 16


class Waiting(Protocol):
    """A row that waits for the device."""

    @property
    def num_tokens(self) -> int:
        """Tokens the row costs in a batch."""


RowT = TypeVar("RowT", bound=Waiting)


class QueueFull(Exception):  # noqa: N818 - a fact about the queue; the engine turns it into Overloaded
    """The queue cannot take this request now."""

    def __init__(self, charged_tokens: int, max_waiting_tokens: int) -> None:
        self.charged_tokens, self.max_waiting_tokens = charged_tokens, max_waiting_tokens
        super().__init__(f"{charged_tokens} tokens are waiting; allowed: {max_waiting_tokens}")


@dataclass(slots=True, eq=False)
class _Line(Generic[RowT]):
    """The rows of one request, in order."""

    request: int
    charge_tokens: int
    rows: deque[RowT] = field(default_factory=deque)
    closed: bool = False


class Scheduler(Generic[RowT]):
    """Rows of open requests, taken in turns under a token and a row budget."""

    def __init__(
        self, *, max_batch_tokens: int, max_batch_rows: int, max_waiting_tokens: int, max_charge_tokens: int
    ) -> None:
        if min(max_batch_tokens, max_batch_rows, max_waiting_tokens, max_charge_tokens) < 1:
            raise ValueError("every limit of the scheduler must be at least 1")
        self.max_batch_tokens, self.max_batch_rows = max_batch_tokens, max_batch_rows
        self.max_waiting_tokens = max_waiting_tokens
        self.max_charge_tokens = min(max_charge_tokens, max_waiting_tokens)
        self.charged_tokens = self.waiting_tokens = self.waiting_rows = 0
        self._lines: dict[int, _Line[RowT]] = {}  # every open request
        self._turns: deque[_Line[RowT]] = deque()  # those with rows (and cancelled ones), next turn first

    @property
    def num_open(self) -> int:
        """Requests that are open: not closed, or with rows still waiting."""
        return len(self._lines)

    def open(self, request: int, estimate_tokens: int) -> None:
        """Admit a request. Raises QueueFull if its charge does not fit beside those of the open ones."""
        charge = max(1, min(estimate_tokens, self.max_charge_tokens))
        if self.charged_tokens + charge > self.max_waiting_tokens:
            raise QueueFull(self.charged_tokens, self.max_waiting_tokens)
        assert request not in self._lines, f"request {request} is open already; this is a bug"
        self._lines[request] = _Line(request, charge)
        self.charged_tokens += charge

    def add(self, request: int, rows: Iterable[RowT]) -> None:
        """Queue rows of an open request; never refused, because the request was admitted."""
        line = self._lines[request]
        assert not line.closed, f"request {request} is closed; this is a bug"
        before = len(line.rows)
        line.rows.extend(rows)
        if len(line.rows) == before:
            return
        self.waiting_rows += len(line.rows) - before
        self.waiting_tokens += sum(line.rows[i].num_tokens for i in range(before, len(line.rows)))
        if not before:
            self._turns.append(line)

    def close(self, request: int) -> None:
        """No more rows will come; the request leaves when its last one is taken."""
        line = self._lines[request]
        line.closed = True
        self._leave_if_done(line)

    def cancel(self, request: int) -> int:
        """Forget a request and its waiting rows; returns how many were dropped. Unknown ones are ignored."""
        line = self._lines.get(request)
        if line is None:
            return 0
        dropped = len(line.rows)
        self.waiting_rows -= dropped
        self.waiting_tokens -= sum(row.num_tokens for row in line.rows)
        line.rows.clear()
        line.closed = True
        self._leave_if_done(line)
        return dropped

    def next_batch(self) -> list[RowT]:
        """The rows to run now; empty if none wait.

        Within both budgets, except that a row larger than the token budget is taken alone. The request whose
        turn it is, is always served, so that a long row cannot be passed over for ever.
        """
        batch: list[RowT] = []
        room_tokens = self.max_batch_tokens
        passed_over: list[_Line[RowT]] = []
        while self._turns and len(batch) < self.max_batch_rows and len(passed_over) < _MAX_PASSED_OVER:
            line = self._turns.popleft()
            if not line.rows:  # cancelled
                continue
            if batch and line.rows[0].num_tokens > room_tokens:
                passed_over.append(line)
                continue
            batch.append(self._take(line))
            room_tokens -= batch[-1].num_tokens
            if room_tokens <= 0:
                break
        self._turns.extendleft(reversed(passed_over))
        return batch

    def _take(self, line: _Line[RowT]) -> RowT:
        row = line.rows.popleft()
        self.waiting_rows -= 1
        self.waiting_tokens -= row.num_tokens
        if line.rows:
            self._turns.append(line)
        else:
            self._leave_if_done(line)
        return row

    def _leave_if_done(self, line: _Line[RowT]) -> None:
        if line.closed and not line.rows and self._lines.pop(line.request, None) is not None:
            self.charged_tokens -= line.charge_tokens
