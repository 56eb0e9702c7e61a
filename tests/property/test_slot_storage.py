"""The parts of a bank and the bank of heads under random writes and clears, against plain dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modeling.head_bank import HeadBank
from modeling.part import Part, Table

CPU = torch.device("cpu")
IDENTITY = torch.tensor([1.0, 2.0, 3.0])
MAX_SLOT = 40
NUM_PARTS = 4
HIDDEN = 3


class TableMachine(RuleBasedStateMachine):
    """In each part, each slot has the value that was written last, or the identity.

    The parts begin with one table; a writer that has only some of them splits it.
    """

    def __init__(self) -> None:
        super().__init__()
        table = Table(CPU)
        self.parts = [Part(IDENTITY * (1 + number), table) for number in range(NUM_PARTS)]
        self.live: dict[int, dict[int, float]] = {}  # by slot: the value in each part
        self.covered = 1  # slot numbers that may be asked for
        self.most = 0
        self.next_value = 10.0

    @property
    def tables(self) -> list[Table]:
        return list(dict.fromkeys(part.table for part in self.parts))

    @rule(slot=st.integers(1, MAX_SLOT), own=st.sets(st.integers(0, NUM_PARTS - 1), min_size=1))
    def write(self, slot: int, own: set[int]) -> None:
        if slot in self.live:
            return
        for table in self.tables:
            held = [part for number, part in enumerate(self.parts) if number in own and part.table is table]
            if held and len(held) < len(table.parts):
                table.split(held)
        self.live[slot] = {number: self.next_value + number for number in own}
        self.covered = max(self.covered, slot + 1)
        for table in self.tables:
            table.reserve(self.covered)
            numbers = {self.parts[number]: number for number in own if self.parts[number].table is table}
            values = {part: self.live[slot][number] for part, number in numbers.items()}
            if values:
                table.write(
                    slot, {part: torch.full((3,), v, dtype=torch.float64) for part, v in values.items()}
                )
        self.next_value += NUM_PARTS
        self.most = max(self.most, len(self.live))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.live)))
        for number in self.live.pop(slot):  # a table is cleared once for each of its parts
            self.parts[number].table.clear(slot)

    @rule(num_slots=st.integers(1, 2 * MAX_SLOT))
    def reserve(self, num_slots: int) -> None:
        for table in self.tables:
            table.reserve(num_slots)
        self.covered = max(self.covered, num_slots)

    @invariant()
    def every_slot_has_its_own_values(self) -> None:
        if self.covered > len(self.asked):
            self.asked = torch.arange(self.covered)
        for number, part in enumerate(self.parts):
            identity = (IDENTITY * (1 + number)).tolist()
            found = part.gather(self.asked)
            held = [self.live.get(slot, {}).get(number) for slot in range(self.covered)]
            assert found.tolist() == [identity if value is None else [value] * 3 for value in held]
            assert found.dtype == torch.float32

    asked = torch.arange(1)  # the same tensor again, as all parts of a batch are asked with

    @invariant()
    def rows_are_reused(self) -> None:
        """It grows when nothing is free, by eight rows (64 slot numbers) or an eighth."""
        for part in self.parts:
            assert part.data.shape[0] <= self.most + max(8, self.most // 8)
            assert part.nbytes == 4 * 3 * part.data.shape[0]
            assert part.index.shape[0] <= self.covered + max(64, self.covered // 8)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


class HeadMachine(RuleBasedStateMachine):
    """Heads of any number of labels; each gives the logits of its own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = HeadBank(HIDDEN, CPU)
        self.live: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.next_slot = 1
        self.generator = torch.Generator().manual_seed(0)

    @rule(labels=st.one_of(st.integers(1, 9), st.sampled_from([40, 64, 90])))
    def write(self, labels: int) -> None:
        weight = torch.randn(labels, HIDDEN, generator=self.generator)
        bias = torch.randn(labels, generator=self.generator)
        self.bank.write(self.next_slot, weight, bias)
        self.live[self.next_slot] = weight, bias
        self.next_slot += 1

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.live)))
        self.bank.clear(slot)
        del self.live[slot]

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def let_another_of_that_size_come(self, data: st.DataObject) -> None:
        """What was freed is room for as much again."""
        slot = data.draw(st.sampled_from(sorted(self.live)))
        before, labels = self.bank.nbytes, len(self.live[slot][1])
        self.bank.clear(slot)
        del self.live[slot]
        self.write(labels)
        assert self.bank.nbytes == before

    @precondition(lambda self: self.live)
    @rule()
    def let_all_go(self) -> None:
        """Then the spans are one again: a head as large as the whole bank needs no more memory."""
        for slot in [*self.live]:
            self.bank.clear(slot)
        self.live.clear()
        before = self.bank.nbytes
        self.write(before // (4 * (HIDDEN + 1)))
        assert self.bank.nbytes == before
        self.bank.clear(self.next_slot - 1)
        self.live.clear()

    @invariant()
    def every_head_has_its_own_weights(self) -> None:
        if not self.live:
            return
        pooled = torch.randn(4, HIDDEN, generator=self.generator)
        slots = [*self.live, *self.live][::-1]
        rows = [number % 4 for number in range(len(slots))]
        for row, slot, logits in zip(rows, slots, self.bank.read(pooled, rows, slots), strict=True):
            weight, bias = self.live[slot]
            np.testing.assert_allclose(logits, (weight @ pooled[row] + bias).numpy(), rtol=1e-5, atol=1e-5)

    @invariant()
    def memory_is_bounded(self) -> None:
        """A head takes its own rows; growth adds 64 at most, or an eighth."""
        used = sum(len(bias) for _, bias in self.live.values())
        assert self.bank.nbytes >= 4 * (HIDDEN + 1) * used


TestHeads = HeadMachine.TestCase
TestHeads.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def heads(*labels: int) -> tuple[HeadBank, dict[int, torch.Tensor]]:
    """A bank with a head for each number of labels, in slots 1, 2, …, whose weights are its slot's number."""
    bank = HeadBank(HIDDEN, CPU)
    weights = {slot: torch.full((count, HIDDEN), float(slot)) for slot, count in enumerate(labels, 1)}
    for slot, weight in weights.items():
        bank.write(slot, weight, torch.zeros(len(weight)))
    return bank, weights


def test_free_spans_on_both_sides_of_a_head_are_not_joined() -> None:
    bank, _ = heads(20, 20, 20)
    bank.clear(1)
    bank.clear(3)
    bank.write(4, torch.full((40, HIDDEN), 4.0), torch.zeros(40))
    (middle,) = bank.read(torch.ones(1, HIDDEN), [0], [2])
    assert middle.tolist() == [2.0 * HIDDEN] * 20


def test_free_neighbours_are_joined() -> None:
    bank, _ = heads(20, 20, 24)
    before = bank.nbytes
    for slot in (2, 1, 3):
        bank.clear(slot)
    bank.write(4, torch.ones(64, HIDDEN), torch.zeros(64))
    assert bank.nbytes == before


def test_the_first_span_with_room_is_taken_and_its_rest_kept() -> None:
    bank, _ = heads(30, 2, 32)
    before = bank.nbytes
    bank.clear(1)
    for slot in (4, 5, 6):
        bank.write(slot, torch.full((10, HIDDEN), float(slot)), torch.zeros(10))
    assert bank.nbytes == before
    found = bank.read(torch.ones(1, HIDDEN), [0] * 5, [2, 3, 4, 5, 6])
    assert [set(logits.tolist()) for logits in found] == [{3.0 * n / 1.0} for n in (2, 3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("labels", "rows"),
    [([1], 2), ([3], 6), ([32], 64), ([64], 64), ([90], 90), ([90, 30], 150), ([800], 800), ([800, 1], 900)],
)
def test_the_bank_grows_by_what_is_needed_or_an_eighth(labels: list[int], rows: int) -> None:
    """A few small heads take twice their rows, or 64."""
    bank, _ = heads(*labels)
    assert bank.nbytes == 4 * (HIDDEN + 1) * rows


@pytest.mark.parametrize(("writes", "rows"), [(0, 1), (1, 9), (8, 9), (9, 17), (200, 205)])
def test_a_part_grows_by_eight_rows_or_an_eighth(writes: int, rows: int) -> None:
    part = Part(IDENTITY, Table(CPU))
    for slot in range(1, writes + 1):
        part.table.write(slot, {part: IDENTITY})
    assert part.data.shape[0] == rows


def test_a_write_that_fails_takes_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(CPU)
    one, other = Part(IDENTITY, table), Part(IDENTITY, table)
    table.write(1, {one: 2 * IDENTITY, other: 2 * IDENTITY})
    with pytest.raises(RuntimeError, match="expand"):
        table.write(2, {one: 3 * IDENTITY, other: torch.zeros(5)})
    table.reserve(9)
    table.write(3, {one: 4 * IDENTITY, other: 4 * IDENTITY})
    found = one.gather(torch.tensor([0, 1, 2, 3]))
    assert found[:, 0].tolist() == [1.0, 2.0, 1.0, 4.0]
    assert one.data.shape[0] == 9


@pytest.mark.parametrize("least", [1, 8, 10_000])
def test_a_head_gives_the_same_alone_and_among_others(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many logits it gives: as a product on its span, or row by row."""
    from modeling import head_bank

    generator = torch.Generator().manual_seed(1)
    bank, heads_of = HeadBank(HIDDEN, CPU), dict[int, tuple[torch.Tensor, torch.Tensor]]()
    for slot, labels in enumerate((3, 500, 1), 1):
        shape = (labels, HIDDEN)
        heads_of[slot] = (
            torch.randn(shape, generator=generator),
            torch.randn(labels, generator=generator),
        )
        bank.write(slot, *heads_of[slot])
    monkeypatch.setattr(head_bank, "_LEAST_PRODUCT", least)
    pooled = torch.randn(4, HIDDEN, generator=generator)
    rows, slots = [3, 1, 0, 2, 1, 1], [2, 1, 2, 3, 1, 2]
    for row, slot, logits in zip(rows, slots, bank.read(pooled, rows, slots), strict=True):
        weight, bias = heads_of[slot]
        np.testing.assert_allclose(logits, (weight @ pooled[row] + bias).numpy(), rtol=1e-5, atol=1e-5)


def test_wide_heads_are_multiplied_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from modeling import head_bank

    bank, _ = heads(7, 5)
    pooled = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    monkeypatch.setattr(head_bank, "_CHUNK_VALUES", 4 * HIDDEN)
    monkeypatch.setattr(head_bank, "_LEAST_PRODUCT", 15)
    found = bank.read(pooled, [1, 0, 0], [1, 2, 1])
    assert [logits.tolist() for logits in found] == [[6.0] * 7, [6.0] * 5, [3.0] * 7]


def test_a_cleared_part_is_the_identity_again_and_its_row_the_next_ones() -> None:
    part = Part(IDENTITY, Table(CPU))
    part.table.write(1, {part: torch.zeros(3)})
    part.table.clear(1)
    assert part.gather(torch.tensor([1]))[0].tolist() == IDENTITY.tolist()
    part.table.write(2, {part: torch.full((3,), 7.0)})
    assert part.gather(torch.tensor([0, 1, 2])).tolist() == [IDENTITY.tolist(), IDENTITY.tolist(), [7.0] * 3]
