"""How probes are replayed: mixed as in serving, exclusive ones apart, and put together again by probe."""

from __future__ import annotations

from typing import Any

import numpy as np

from modeling import Encoded, Placement
from modeling.served import BARE
from proof.replay import ProbeBatch, by_probe, plan_probes, replay
from tests.unit.service.fakes import FakeModel, FakePacked

LIMITS: dict[str, Any] = {"max_batch_tokens": 64, "max_row_tokens": 20}


def _row(length: int) -> Encoded:
    return Encoded([1] * length, [0] * length, length, truncated=False)


def _probes(*lengths: int) -> list[tuple[Encoded, ...]]:
    return [(_row(length),) for length in lengths]


def test_each_probe_stands_beside_a_neighbour() -> None:
    (batch,) = plan_probes(
        [(_probes(5, 6, 7), Placement(3, 3))], neighbours=[BARE, Placement(1, 1)], **LIMITS
    )
    assert batch.body_slots == [3, 0, 3, 1, 3, 0]
    assert batch.reads == [(0, 3), (2, 3), (4, 3)]
    assert [len(one) for one in batch.encoded] == [5, 5, 6, 6, 7, 7]


def test_an_exclusive_candidate_stands_in_batches_of_its_own() -> None:
    installed = [
        (_probes(5, 6), Placement(1, 1)),
        (_probes(5, 6), Placement(2, 2, exclusive=True)),
        (_probes(5), Placement(3, 3, exclusive=True)),
        (_probes(5), Placement(4, 4)),
    ]
    batches = plan_probes(installed, neighbours=[BARE], **LIMITS)
    assert [batch.body_slots for batch in batches] == [[1, 0, 1, 0], [2, 2], [3], [4, 0]]


def test_an_exclusive_resident_is_no_neighbour() -> None:
    (batch,) = plan_probes(
        [(_probes(5), Placement(1, 1))], neighbours=[Placement(2, 2, exclusive=True)], **LIMITS
    )
    assert batch.body_slots == [1, 0]


def test_a_neighbour_whose_virtual_tokens_leave_no_room_gives_way() -> None:
    neighbour = Placement(2, 2, virtual_tokens=10)
    (batch,) = plan_probes([(_probes(10, 11), Placement(1, 1))], neighbours=[neighbour], **LIMITS)
    assert batch.body_slots == [1, 2, 1, 0]


def test_batches_stay_within_the_budget_and_a_long_row_is_taken_alone() -> None:
    installed = [(_probes(20, 20, 20, 70), Placement(1, 1, virtual_tokens=5, decoder_tokens=6))]
    batches = plan_probes(installed, neighbours=[], **LIMITS)
    assert [[len(one) for one in batch.encoded] for batch in batches] == [[20, 20], [20], [70]]


def test_no_probes_are_no_batches() -> None:
    assert plan_probes([], neighbours=[BARE], **LIMITS) == []
    assert plan_probes([([], Placement(1, 1))], neighbours=[], **LIMITS) == []


def test_the_rows_of_a_probe_with_choices_are_put_together() -> None:
    model: Any = FakeModel()
    packed: Any = FakePacked()
    placement = model.placement(model.install(packed))
    probes = [(_row(3), _row(4)), (_row(5), _row(6), _row(7))]
    batches = plan_probes([(probes, placement)], neighbours=[BARE], max_batch_tokens=20, max_row_tokens=20)
    assert len(batches) > 1
    logits = iter([one[:1] for batch in batches for one in replay(model, batch)])
    assert [one.tolist() for one in by_probe(probes, logits)] == [[3, 4], [5, 6, 7]]


def test_single_rows_keep_their_logits() -> None:
    logits = [np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)]
    assert [one.tolist() for one in by_probe(_probes(3, 4), iter(logits))] == [[1, 2], [3, 4]]


def test_a_batch_is_what_the_model_is_asked() -> None:
    model: Any = FakeModel()
    replay(model, ProbeBatch([_row(3)], [0], []))
    assert model.batches[0][1:] == ([0], [])


def test_a_row_costs_all_that_is_read_of_it() -> None:
    """Its tokens, once more where the decoder reads them, virtual ones, labels, and its own target."""
    row = Encoded([1] * 10, [0] * 10, 10, truncated=False, target=(3, 4, 2))
    placed = Placement(1, 1, virtual_tokens=5, decoder_tokens=2, decoder_per_token=1)
    cost = 2 * 10 + 5 + 2 + 3
    for budget, batches in [(2 * cost, [2, 1]), (2 * cost - 1, [1, 1, 1]), (3 * cost, [3])]:
        found = plan_probes(
            [([(row,)] * 3, placed)], neighbours=[], max_batch_tokens=budget, max_row_tokens=99
        )
        assert [len(batch.encoded) for batch in found] == batches
