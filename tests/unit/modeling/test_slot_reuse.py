"""A slot that was used before: each fault that would let its last adapter, or its neighbours, show."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from modeling import METHODS, Adapter, Backbone, HeadSpec, ServedModel, TextItem
from tests.conformance import checks
from tests.tiny import hidden_of, tiny_backbone

TEXTS: list[TextItem] = ["w1 w2 w3", ("w4 w5", "w6"), "w7"]
SPEC = checks.SPECS[0]


def adapter(method: str, seed: int, spec: HeadSpec = SPEC) -> Adapter:
    return checks.trained(tiny_backbone("bert"), method, spec, seed, size=0.5)


def assert_alone(served: ServedModel, residents: dict[int, Adapter]) -> None:
    """Every text under every slot, in one batch, equals the text alone in training form."""
    encoded, other = served.backbone.text.encode(TEXTS), tiny_backbone("bert")
    pairs = [(one, slot) for slot in residents for one in encoded]
    bodies = [served.placement(slot).body_slot for _, slot in pairs]
    found = served.run(
        [one for one, _ in pairs], bodies, [(row, slot) for row, (_, slot) in enumerate(pairs)]
    )
    for (one, slot), logits in zip(pairs, found, strict=True):
        wanted = checks.logits_alone(other, residents[slot], one)
        torch.testing.assert_close(torch.from_numpy(logits), wanted, **checks.TOLERANCE)


@pytest.fixture
def served() -> ServedModel:
    return ServedModel(tiny_backbone("bert"))


@pytest.mark.parametrize("method", ["hadamard", "ln_tuning", "houlsby", "compacter", "lora", "prompt_tuning"])
def test_the_next_in_a_slot_has_nothing_of_the_last(served: ServedModel, method: str) -> None:
    stays, goes = adapter("bitfit", 1), adapter(method, 2)
    first, slot = served.install(stays.pack()), served.install(goes.pack())
    assert_alone(served, {first: stays, slot: goes})
    served.remove(slot)
    assert_alone(served, {first: stays})
    for seed, other in enumerate(["ia3", "full", "linear_probe", method], start=3):
        comes = adapter(other, seed)
        assert served.install(comes.pack()) == slot
        if other == "full":
            assert_alone(served, {slot: comes})
        else:
            assert_alone(served, {first: stays, slot: comes})
        served.remove(slot)


@pytest.mark.parametrize("method", ["full", "intrinsic_said"])
def test_the_weights_of_an_exclusive_adapter_go_with_it(served: ServedModel, method: str) -> None:
    one, other = adapter(method, 1), adapter(method, 2)
    slot = served.install(one.pack())
    assert_alone(served, {slot: one})
    served.remove(slot)
    assert served.install(other.pack()) == slot
    assert_alone(served, {slot: other})


def test_two_exclusive_adapters_take_turns(served: ServedModel) -> None:
    adapters = {served.install(a.pack()): a for a in (adapter("full", 1), adapter("full", 2))}
    for slot in [1, 2, 1, 1, 2]:
        assert_alone(served, {slot: adapters[slot]})


def test_a_part_that_is_new_in_a_reused_slot_covers_the_higher_ones(served: ServedModel) -> None:
    """Its index was as long as that slot's number: a batch with a higher one failed."""
    residents = {served.install(a.pack()): a for a in (adapter("bitfit", seed) for seed in range(3))}
    served.remove(1)
    residents[1] = adapter("hadamard", 7)
    assert served.install(residents[1].pack()) == 1
    assert_alone(served, residents)


def test_a_head_keeps_its_weights_when_its_neighbours_go(served: ServedModel) -> None:
    specs = [HeadSpec("single_label", tuple(f"c{i}" for i in range(count))) for count in (30, 3, 30, 58)]
    heads = [adapter("linear_probe", seed, spec) for seed, spec in enumerate(specs)]
    for head in heads[:3]:
        served.install(head.pack())
    served.remove(1)
    served.remove(3)
    slot = served.install(heads[3].pack())
    assert_alone(served, {2: heads[1], slot: heads[3]})


@pytest.mark.parametrize("method", METHODS)
def test_coming_and_going_needs_no_more_memory(served: ServedModel, method: str) -> None:
    """More often than a bank has spare rows, so that a row that was not given back would show."""
    one = adapter(method, 1)
    slot = served.install(one.pack())
    before = served.nbytes
    for _ in range(12):
        served.remove(slot)
        assert served.install(one.pack()) == slot
    assert served.nbytes == before
    assert_alone(served, {slot: one})


def test_what_acted_in_the_last_batch_does_not_in_the_next(served: ServedModel) -> None:
    """Above all what acts by rows: the next batch has others."""
    residents = {served.install(a.pack()): a for a in map(adapter, ["houlsby", "lora", "bitfit"], range(3))}
    encoded, backbone = served.backbone.text.encode(TEXTS), tiny_backbone("bert")
    for chosen in ([1, 2, 3], [3], [2], [1, 3]):
        assert_alone(served, {slot: residents[slot] for slot in chosen})
        for found, text in zip(served.hidden(encoded, [0] * len(TEXTS)), encoded, strict=True):
            torch.testing.assert_close(found, hidden_of(backbone, [text]), **checks.TOLERANCE)


def test_slots_are_not_given_twice(served: ServedModel) -> None:
    one = adapter("bitfit", 1)
    assert [served.install(one.pack()) for _ in range(3)] == [1, 2, 3]
    served.remove(2)
    served.remove(1)
    assert {served.install(one.pack()), served.install(one.pack())} == {1, 2}
    assert served.install(one.pack()) == 4
    assert served.num_resident == 4


def test_many_kinds_of_mixtures_are_forgotten_and_planned_again(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeling import banks

    monkeypatch.setattr(banks, "_MAX_PLANS", 2)
    residents = {served.install(adapter(m, i).pack()): adapter(m, i) for i, m in enumerate(["ia3", "lora"])}
    for chosen in ([1], [2], [1, 2], [2], [1], [1, 2]):
        assert_alone(served, {slot: residents[slot] for slot in chosen})


def test_a_lone_backbone_is_what_it_was_after_all_have_gone(served: ServedModel) -> None:
    backbone: Backbone = tiny_backbone("bert")
    encoded = backbone.text.encode(TEXTS)
    for method in ("hadamard", "full", "houlsby", "prompt_tuning"):
        one = adapter(method, 1)
        slot = served.install(one.pack())
        assert_alone(served, {slot: one})
        served.remove(slot)
    for found, text in zip(served.hidden(encoded, [0] * len(TEXTS)), encoded, strict=True):
        torch.testing.assert_close(found, hidden_of(backbone, [text]), **checks.TOLERANCE)


class NoMemoryAt(TorchFunctionMode):
    """One call of torch's fails, the one with this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.left = number

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if self.left == -1:
            raise torch.OutOfMemoryError("here")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["compacter", "lora", "hadamard", "linear_probe"])
def test_an_install_that_fails_leaves_nothing_behind(served: ServedModel, method: str) -> None:
    """Wherever it fails; its labels are more than the heads so far have room for."""
    spec = HeadSpec("single_label", tuple(f"c{i}" for i in range(90)))
    residents = {served.install(a.pack()): a for a in map(adapter, ["bitfit", method, "ia3"], range(3))}
    served.remove(1)
    one, failures = adapter(method, 7, spec), 0
    packed = one.pack()
    while True:
        try:
            with NoMemoryAt(failures):
                assert served.install(packed) == 1
            break
        except torch.OutOfMemoryError:
            failures += 1
        assert served.num_resident == 2
        with pytest.raises(KeyError):
            served.placement(1)
        if failures % 29 == 1:
            assert_alone(served, {slot: residents[slot] for slot in (2, 3)})
    assert failures > 5
    residents[1] = one
    assert_alone(served, residents)
    other = ServedModel(tiny_backbone("bert"))
    for number, each in enumerate(map(adapter, ["bitfit", method, "ia3"], range(3)), start=1):
        assert other.install(each.pack()) == number
    other.remove(1)
    other.install(packed)
    assert served.nbytes == other.nbytes
