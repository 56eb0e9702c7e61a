"""Adapters that are installed together answer, leave and fail as those that are installed one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from modeling import METHODS, Backbone, HeadSpec, PackedAdapter, ServedModel
from modeling.part import Table
from tests.conformance.checks import exclusive, trained
from tests.tiny import random_texts, tiny_backbone

MIXING = [method for method in METHODS if not exclusive(method)]
SPECS = (HeadSpec("single_label", ("no", "yes")), HeadSpec("multi_label", ("a", "b", "c")))


def packed(backbone: Backbone, count: int, first: int = 0) -> list[PackedAdapter]:
    """Some of each method, in a random order."""
    adapters = [
        trained(backbone, MIXING[seed % len(MIXING)], SPECS[seed % 2], seed).pack()
        for seed in range(first, first + count)
    ]
    random.Random(first).shuffle(adapters)
    return adapters


def answers(model: ServedModel, slots: Sequence[int]) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    texts = [text for text in random_texts(20, 3) if isinstance(text, str)]
    encoded = model.backbone.text.encode([texts[i % len(texts)] for i in range(len(slots))])
    body_slots = [model.placement(slot).body_slot for slot in slots]
    return model.run(encoded, body_slots, list(enumerate(slots)))


def equal(model: ServedModel, slots: Sequence[int], other: ServedModel, others: Sequence[int]) -> bool:
    found = zip(answers(model, slots), answers(other, others), strict=True)
    return all(np.array_equal(one, two) for one, two in found)


def test_together_or_one_by_one_is_the_same_with_slots_that_were_used_before() -> None:
    together, alone = ServedModel(tiny_backbone("bert")), ServedModel(tiny_backbone("bert"))
    many = packed(together.backbone, 3 * len(MIXING))
    slots, others = together.install_all(many), [alone.install(one) for one in many]
    assert equal(together, slots, alone, others)
    for number in range(0, len(slots), 2):
        together.remove(slots[number])
        alone.remove(others[number])
    kept, others_kept = slots[1::2], others[1::2]
    more = packed(together.backbone, 2 * len(MIXING) + 3, first=100)
    slots, others = together.install_all(more), [alone.install(one) for one in more]
    assert equal(together, [*kept, *slots], alone, [*others_kept, *others])
    assert together.num_resident == alone.num_resident
    for slot in (*kept, *slots):
        together.remove(slot)
    again = together.install_all(many)
    fresh = ServedModel(tiny_backbone("bert"))
    assert equal(together, again, fresh, [fresh.install(one) for one in many])


def test_a_failure_leaves_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ServedModel(tiny_backbone("bert"))
    first = model.install_all(packed(model.backbone, 4))
    before = answers(model, first)
    many = packed(model.backbone, 3 * len(MIXING), first=50)
    with monkeypatch.context() as patch:
        left = 5

        def fail(self: Table, *arguments: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise MemoryError
            write_all(self, *arguments)  # type: ignore[arg-type]

        write_all = Table.write_all
        patch.setattr(Table, "write_all", fail)
        with pytest.raises(MemoryError):
            model.install_all(many)
    assert model.num_resident == 4
    assert all(np.array_equal(one, two) for one, two in zip(answers(model, first), before, strict=True))
    fresh = ServedModel(tiny_backbone("bert"))
    assert equal(model, model.install_all(many), fresh, fresh.install_all(many))


def test_none_at_all() -> None:
    model = ServedModel(tiny_backbone("bert"))
    assert model.install_all([]) == []
    heads = [trained(model.backbone, "linear_probe", SPECS[0], seed).pack() for seed in range(3)]
    assert model.install_all(heads) == [1, 2, 3]
    assert torch.is_inference_mode_enabled() is False
