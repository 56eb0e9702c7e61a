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
    group: str | None = None


MAX_TOKENS, MAX_ROWS, MAX_WAITING, MAX_CHARGE = 40, 7, 300, 60
GROUPS = st.sampled_from([None, None, "a", "b"])
SIZES = st.one_of(st.integers(1, 5), st.integers(1, 60))  # many rows in a batch, and few


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
    @rule(data=st.data(), sizes=st.lists(st.tuples(SIZES, GROUPS), max_size=12))
    def add(self, data: st.DataObject, sizes: list[tuple[int, str | None]]) -> None:
        request = data.draw(st.sampled_from(sorted(set(self.waiting) - self.closed)))
        rows = [Item(request, self._tick(), length, group) for length, group in sizes]
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
        num_waiting = self.scheduler.waiting_rows
        self.scheduler.cancel(request)
        assert num_waiting - self.scheduler.waiting_rows == len(self.waiting.pop(request, ()))
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
        assert len({row.group for row in batch}) == 1
        turns = [self.turn[request] for request in dict.fromkeys(row.request for row in batch)]
        assert turns == sorted(turns), "who waits longer comes first in a batch, too"
        for row in batch:
            first = next(one for one in self.waiting[row.request] if one.group == row.group)
            assert first is row, "the rows of a request come in its order within a group"
            self.waiting[row.request].remove(row)
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


def _filled(
    lengths_by_request: list[list[int]], groups: list[list[str | None]] | None = None, **limits: int
) -> Scheduler[Item]:
    """Closed requests 0, 1, … with rows of these lengths; the groups of each are used in turns."""
    scheduler: Scheduler[Item] = Scheduler(
        **({"max_batch_tokens": 64, "max_batch_rows": 16} | limits),
        max_waiting_tokens=10**9,
        max_charge_tokens=10**6,
    )
    for request, lengths in enumerate(lengths_by_request):
        scheduler.open(request, sum(lengths))
        own = groups[request] if groups else [None]
        rows = [Item(request, i, length, own[i % len(own)]) for i, length in enumerate(lengths)]
        scheduler.add(request, rows)
        scheduler.close(request)
    return scheduler


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=30), min_size=1, max_size=12),
    st.lists(st.lists(GROUPS, min_size=1, max_size=3), min_size=12, max_size=12),
)
def test_every_row_is_taken_once_and_every_batch_counts(
    lengths_by_request: list[list[int]], groups: list[list[str | None]]
) -> None:
    scheduler = _filled(lengths_by_request, groups)
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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 80), min_size=1, max_size=40), min_size=1, max_size=8),
    st.lists(st.lists(GROUPS, min_size=1, max_size=4), min_size=8, max_size=8),
)
def test_every_waiting_request_is_served_within_one_round(
    lengths_by_request: list[list[int]], groups: list[list[str | None]]
) -> None:
    """Of R requests, each that waits has a row in one of the next R batches, whatever their groups are."""
    scheduler = _filled(lengths_by_request, groups)
    left = {request: len(lengths) for request, lengths in enumerate(lengths_by_request)}
    unserved = dict.fromkeys(left, 0)
    while batch := scheduler.next_batch():
        for row in batch:
            left[row.request] -= 1
        for request in list(left):
            served = any(row.request == request for row in batch)
            unserved[request] = 0 if served else unserved[request] + 1
            assert unserved[request] < len(lengths_by_request)
            if not left[request]:
                del left[request]
    assert not left


def test_bursts_of_mixed_and_of_exclusive_rows_take_turns() -> None:
    scheduler = _filled([[4] * 160, [4] * 160, [4] * 160], [[None], ["own"], [None]])
    batches = [scheduler.next_batch() for _ in range(20)]
    assert [batch[0].group for batch in batches] == [None, "own"] * 10
    assert all(len(batch) == 16 for batch in batches)
    assert {row.request for row in batches[0]} == {0, 2}


def test_a_request_with_many_groups_has_the_turns_of_one() -> None:
    """64 exclusive tasks on many texts in one call; a single mixed call that arrives then waits one batch."""
    own: list[str | None] = [f"task {number}" for number in range(64)]
    scheduler = _filled([[4] * 6400], [own])
    scheduler.next_batch()
    scheduler.open(99, 4)
    scheduler.add(99, [Item(99, 0, 4)])
    scheduler.close(99)
    batches = [scheduler.next_batch() for _ in range(2)]
    assert [row.request for row in batches[1]] == [99]


def test_the_groups_of_one_request_take_turns() -> None:
    scheduler = _filled([[4] * 200], [[None, "a", "b"]])
    assert [scheduler.next_batch()[0].group for _ in range(7)] == [None, "a", "b", None, "a", "b", None]


def test_a_group_that_comes_later_waits_since_its_request_does() -> None:
    scheduler = _filled([[4] * 100, [4] * 100], [[None], ["own"]])
    scheduler.open(7, 8)
    scheduler.add(7, [Item(7, 0, 64)])
    scheduler.next_batch()  # of request 0
    scheduler.add(7, [Item(7, 1, 4, "own")])
    assert {row.request for row in scheduler.next_batch()} == {1, 7}


def test_within_a_batch_who_waits_longer_comes_first() -> None:
    """Request 1 waits since before request 2, though its row of that group came last."""
    later: Scheduler[Item] = Scheduler(
        max_batch_tokens=64, max_batch_rows=2, max_waiting_tokens=1000, max_charge_tokens=100
    )
    for request, group in enumerate(["own", None, "own"]):
        later.open(request, 4)
        later.add(request, [Item(request, 0, 4, group)])
    later.add(1, [Item(1, 1, 4, "own")])
    assert [row.request for row in later.next_batch()] == [0, 1]


def test_both_budgets_are_used_up_and_kept() -> None:
    by_rows = _filled([[1] * 40])
    assert [len(by_rows.next_batch()) for _ in range(3)] == [16, 16, 8]
    by_tokens = _filled([[30] * 5, [4] * 2])
    assert [[row.num_tokens for row in by_tokens.next_batch()] for _ in range(3)] == [
        [30, 4, 30],
        [4, 30, 30],
        [30],
    ]


def test_those_passed_over_keep_their_order_and_their_turn() -> None:
    scheduler = _filled([[40], [50], [60], [10]])
    assert [[row.request for row in scheduler.next_batch()] for _ in range(3)] == [[0, 3], [1], [2]]


def test_no_more_than_sixteen_are_passed_over() -> None:
    scheduler = _filled([[40], *[[50]] * 16, [10]])
    assert [row.request for row in scheduler.next_batch()] == [0]
    scheduler = _filled([[40], *[[50]] * 15, [10]])
    assert [row.request for row in scheduler.next_batch()] == [0, 16]


def test_a_charge_is_between_one_and_the_share() -> None:
    scheduler: Scheduler[Item] = Scheduler(
        max_batch_tokens=8, max_batch_rows=8, max_waiting_tokens=10, max_charge_tokens=6
    )
    scheduler.open(1, 1000)
    assert scheduler.charged_tokens == 6
    scheduler.open(2, 0)
    assert scheduler.charged_tokens == 7
    with pytest.raises(QueueFull, match="7 tokens are waiting; allowed: 10"):
        scheduler.open(3, 4)
    scheduler.open(3, 3)
    assert (scheduler.charged_tokens, scheduler.num_open) == (10, 3)
    scheduler.cancel(1)
    scheduler.close(2)
    assert (scheduler.charged_tokens, scheduler.num_open) == (3, 1)
    scheduler.cancel(99)
    assert (scheduler.charged_tokens, scheduler.num_open) == (3, 1)


def test_a_cancelled_request_leaves_every_group() -> None:
    scheduler = _filled([[4] * 30, [4] * 3], [[None, "a"], ["a"]])
    scheduler.cancel(0)
    assert scheduler.waiting_rows == 3
    assert [row.request for row in scheduler.next_batch()] == [1, 1, 1]
    assert scheduler.next_batch() == []
    assert scheduler.waiting_rows == scheduler.waiting_tokens == 0


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
