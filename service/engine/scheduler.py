"""Which waiting rows form the next batch, and when the queue is full.

Pure: no tensors, no clock, no threads (the engine holds the lock). A *request* opens with an estimate of its
tokens, adds rows as they are tokenised, and closes. Batches take rows round-robin over the requests, so that
a job of 10,000 texts cannot delay a single call by more than its share; the request whose last turn is
longest ago is always in the next batch.

Rows of different *groups* never share a batch. Most rows have none (`None`) and mix with each other, whatever
their tasks; an adapter that changes the weights of the backbone has a group of its own. The request whose
turn it is says which group runs, and turns belong to requests, not to groups: a request gets no more of the
device because its rows are of many groups, and rows of no group go on starving.

Admission counts what a newcomer would wait for, not what is queued: because rows are taken in turns, one
request delays others by at most its share, so it is charged min(estimate, `max_charge_tokens`). The sum of
the charges of the open requests never exceeds `max_waiting_tokens`, whatever the shape of the requests.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

# Requests whose next row does not fit are passed over; after this many the batch is full enough.
_MAX_PASSED_OVER = 16


class Waiting(Protocol):
    """A row that waits for the device."""

    @property
    def num_tokens(self) -> int: ...  # that it costs in a batch
    @property
    def group(self) -> Hashable: ...


RowT = TypeVar("RowT", bound=Waiting)


class QueueFull(Exception):  # noqa: N818 - a fact about the queue; the engine turns it into Overloaded
    """The queue cannot take this request now."""

    def __init__(self, charged_tokens: int, max_waiting_tokens: int) -> None:
        self.charged_tokens, self.max_waiting_tokens = charged_tokens, max_waiting_tokens
        super().__init__(f"{charged_tokens} tokens are waiting; allowed: {max_waiting_tokens}")


@dataclass(slots=True, eq=False)
class _Line(Generic[RowT]):
    """The waiting rows of one request, in order within each group; the group to run first comes first."""

    request: int
    charge_tokens: int
    rows: dict[Hashable, deque[RowT]] = field(default_factory=dict)
    last_turn: int = 0  # or when it began to wait
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
        # the lines with rows of a group, the one whose last turn is longest ago first
        self._turns: dict[Hashable, OrderedDict[int, _Line[RowT]]] = {}
        self._num_turns = 0

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
        began = not line.rows
        for row in rows:
            line.rows.setdefault(row.group, deque()).append(row)
            self.waiting_rows += 1
            self.waiting_tokens += row.num_tokens
        if began and line.rows:
            self._note_turn(line)
        for group in line.rows:
            turns = self._turns.setdefault(group, OrderedDict())
            if request not in turns:
                self._insert(turns, line)

    def close(self, request: int) -> None:
        """No more rows will come; the request leaves when its last one is taken."""
        line = self._lines[request]
        line.closed = True
        self._leave_if_done(line)

    def cancel(self, request: int) -> None:
        """Forget a request and its waiting rows. Unknown ones are ignored."""
        line = self._lines.get(request)
        if line is None:
            return
        for group in list(line.rows):
            self.waiting_rows -= len(line.rows[group])
            self.waiting_tokens -= sum(row.num_tokens for row in line.rows[group])
            self._forget_group(line, group)
        line.closed = True
        self._leave_if_done(line)

    def next_batch(self) -> list[RowT]:
        """The rows to run now, all of one group; empty if none wait.

        Within both budgets, except that a row larger than the token budget is taken alone. The request whose
        turn it is, is always served, so that a long row cannot be passed over for ever.
        """
        batch: list[RowT] = []
        if not self._turns:
            return batch
        first = min(
            (next(iter(turns.values())) for turns in self._turns.values()), key=attrgetter("last_turn")
        )
        group = next(iter(first.rows))
        turns = self._turns[group]
        room_tokens = self.max_batch_tokens
        passed_over: list[_Line[RowT]] = []
        while turns and len(batch) < self.max_batch_rows and len(passed_over) < _MAX_PASSED_OVER:
            line = next(iter(turns.values()))
            if batch and line.rows[group][0].num_tokens > room_tokens:
                passed_over.append(line)
                del turns[line.request]
                continue
            batch.append(self._take(line, group))
            room_tokens -= batch[-1].num_tokens
            if room_tokens <= 0:
                break
        for line in reversed(passed_over):
            turns[line.request] = line
            turns.move_to_end(line.request, last=False)
        if not turns:
            self._turns.pop(group, None)
        return batch

    def _take(self, line: _Line[RowT], group: Hashable) -> RowT:
        rows = line.rows[group]
        row = rows.popleft()
        self.waiting_rows -= 1
        self.waiting_tokens -= row.num_tokens
        if rows and len(line.rows) > 1:
            line.rows[group] = line.rows.pop(group)  # its other groups come first the next time
        elif not rows:
            del line.rows[group], self._turns[group][line.request]
        self._note_turn(line)
        self._leave_if_done(line)
        return row

    def _note_turn(self, line: _Line[RowT]) -> None:
        """Put the line last, wherever it stands."""
        self._num_turns += 1
        line.last_turn = self._num_turns
        for group in line.rows:
            turns = self._turns.get(group)
            if turns is not None and line.request in turns:
                turns.move_to_end(line.request)

    def _insert(self, turns: OrderedDict[int, _Line[RowT]], line: _Line[RowT]) -> None:
        """Where its last turn says: a line that waits in one group already may begin to in another."""
        last = next(reversed(turns.values()), line)
        turns[line.request] = line
        if last.last_turn > line.last_turn:
            for one in [one for one in turns.values() if one.last_turn > line.last_turn]:
                turns.move_to_end(one.request)

    def _forget_group(self, line: _Line[RowT], group: Hashable) -> None:
        del line.rows[group], self._turns[group][line.request]
        if not self._turns[group]:
            del self._turns[group]

    def _leave_if_done(self, line: _Line[RowT]) -> None:
        if line.closed and not line.rows and self._lines.pop(line.request, None) is not None:
            self.charged_tokens -= line.charge_tokens
