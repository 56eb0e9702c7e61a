"""The scheduler under random requests: budgets, order, fairness, admission; nothing is lost or starves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.engine.scheduler import QueueFull, Scheduler


@dataclass(frozen=True)
class Item:
    request: int
    number: int
    num_tokens: int


MAX_TOKENS, MAX_ROWS, MAX_WAITING, MAX_CHARGE = 40, 7, 300, 60


class SchedulerMachine(RuleBasedStateMachine):
    """Compares with a plain model: a list of waiting rows per open request."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Scheduler[Item] = Scheduler(
            max_batch_tokens=MAX_TOKENS,
            max_batch_rows=MAX_ROWS,
            max_waiting_tokens=MAX_WAITING,
            max_charge_tokens=MAX_CHARGE,
        )
        self.waiting: dict[int, list[Item]] = {}
        self.turn: dict[int, int] = {}  # when a request began to wait, or had its last turn
        self.charges: dict[int, int] = {}
        self.closed: set[int] = set()
        self.next_request = self.clock = 0

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    @rule(estimate=st.integers(0, 200))
    def open(self, estimate: int) -> None:
        charge = max(1, min(estimate, MAX_CHARGE))
        fits = sum(self.charges.values()) + charge <= MAX_WAITING
        self.next_request += 1
        try:
            self.scheduler.open(self.next_request, estimate)
        except QueueFull:
            assert not fits
            return
        assert fits
        self.waiting[self.next_request] = []
        self.charges[self.next_request] = charge

    @precondition(lambda self: set(self.waiting) - self.closed)
    @rule(data=st.data(), lengths=st.lists(st.integers(1, 60), max_size=12))
    def add(self, data: st.DataObject, lengths: list[int]) -> None:
        request = data.draw(st.sampled_from(sorted(set(self.waiting) - self.closed)))
        rows = [Item(request, self._tick(), length) for length in lengths]
        self.scheduler.add(request, rows)
        if rows and not self.waiting[request]:
            self.turn[request] = self._tick()
        self.waiting[request] += rows

    @precondition(lambda self: set(self.waiting) - self.closed)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(set(self.waiting) - self.closed)))
        self.scheduler.close(request)
        self.closed.add(request)
        self._leave(request)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([*sorted(self.waiting), 10_000]))
        assert self.scheduler.cancel(request) == len(self.waiting.get(request, ()))
        self.waiting.pop(request, None)
        self.charges.pop(request, None)
        self.closed.discard(request)

    @rule()
    def next_batch(self) -> None:
        batch = self.scheduler.next_batch()
        ready = [request for request, rows in self.waiting.items() if rows]
        assert bool(batch) == bool(ready)
        if not batch:
            return
        assert len(batch) <= MAX_ROWS
        assert sum(row.num_tokens for row in batch) <= MAX_TOKENS or len(batch) == 1
        assert batch[0].request == min(ready, key=lambda request: self.turn[request])
        for row in batch:
            assert self.waiting[row.request].pop(0) is row, "the rows of a request come in its order"
            self.turn[row.request] = self._tick()
        for request in {row.request for row in batch}:
            self._leave(request)

    def _leave(self, request: int) -> None:
        if request in self.closed and not self.waiting[request]:
            del self.waiting[request], self.charges[request]
            self.closed.discard(request)

    @invariant()
    def counts_agree(self) -> None:
        rows = [row for rows in self.waiting.values() for row in rows]
        assert self.scheduler.waiting_rows == len(rows)
        assert self.scheduler.waiting_tokens == sum(row.num_tokens for row in rows)
        assert self.scheduler.charged_tokens == sum(self.charges.values()) <= MAX_WAITING
        assert self.scheduler.num_open == len(self.waiting)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def _filled(lengths_by_request: list[list[int]], **limits: int) -> Scheduler[Item]:
    scheduler: Scheduler[Item] = Scheduler(
        **({"max_batch_tokens": 64, "max_batch_rows": 16} | limits),
        max_waiting_tokens=10**9,
        max_charge_tokens=10**6,
    )
    for request, lengths in enumerate(lengths_by_request):
        scheduler.open(request, sum(lengths))
        scheduler.add(request, [Item(request, i, length) for i, length in enumerate(lengths)])
        scheduler.close(request)
    return scheduler


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=30), min_size=1, max_size=12))
def test_every_row_is_taken_once_and_every_batch_counts(lengths_by_request: list[list[int]]) -> None:
    scheduler = _filled(lengths_by_request)
    total = sum(len(lengths) for lengths in lengths_by_request)
    taken: dict[int, list[int]] = defaultdict(list)
    num_batches = 0
    while batch := scheduler.next_batch():
        num_batches += 1
        for row in batch:
            taken[row.request].append(row.number)
    assert num_batches <= total
    assert {request: sorted(numbers) for request, numbers in taken.items()} == {
        request: list(range(len(lengths))) for request, lengths in enumerate(lengths_by_request)
    }
    assert scheduler.num_open == scheduler.charged_tokens == scheduler.waiting_tokens == 0


@settings(max_examples=40, deadline=None)
@given(num_bulk=st.integers(1, 6), length=st.integers(1, 32), single=st.integers(1, 64))
def test_a_single_call_waits_for_turns_and_not_for_bulk_jobs(num_bulk: int, length: int, single: int) -> None:
    """Bulk jobs of 1,000 rows each; a single call that arrives then is in one of the next few batches."""
    scheduler = _filled([[length] * 1000] * num_bulk)
    scheduler.next_batch()
    scheduler.open(99, single)
    scheduler.add(99, [Item(99, 0, single)])
    scheduler.close(99)
    rounds = next(k for k in range(1, 1000) if any(row.request == 99 for row in scheduler.next_batch()))
    turns_per_batch = min(16, 64 // length)
    assert rounds <= 2 + num_bulk // turns_per_batch


def test_a_long_row_that_is_passed_over_gets_its_turn() -> None:
    scheduler = _filled([[10] * 200, [64], [10] * 200])
    rounds = next(k for k in range(1, 100) if any(row.request == 1 for row in scheduler.next_batch()))
    assert rounds == 2


def test_batches_are_filled_when_one_job_is_alone() -> None:
    scheduler = _filled([[4] * 100])
    sizes = []
    while batch := scheduler.next_batch():
        sizes.append(len(batch))
    assert sizes == [16] * 6 + [4]


def test_a_row_above_the_budget_is_taken_alone() -> None:
    scheduler = _filled([[500], [3], [3]])
    assert [row.request for row in scheduler.next_batch()] == [0]
    assert [row.request for row in scheduler.next_batch()] == [1, 2]


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Scheduler(max_batch_tokens=0, max_batch_rows=1, max_waiting_tokens=1, max_charge_tokens=1)
