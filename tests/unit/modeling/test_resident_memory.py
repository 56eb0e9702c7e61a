"""What an adapter costs on the device where adapters of every other method are resident, too."""

from __future__ import annotations

import pytest
import torch

from modeling import METHODS, Adapter, PackedAdapter, ServedModel
from tests.conformance import checks
from tests.conformance.options import tiny_options
from tests.tiny import tiny_backbone

MIXING = [name for name in METHODS if not checks.exclusive(name)]
EACH = 24
INDEX_BYTES = 4 * 40  # a number of 4 bytes in each table, an eighth to spare: there are some dozen tables


def packed(method: str) -> PackedAdapter:
    backbone = tiny_backbone("bert")
    made = METHODS[method].from_config(tiny_options(method))
    return Adapter.create(backbone, made, checks.SPECS[1]).pack()


def tensors_bytes(one: PackedAdapter) -> int:
    parts = [
        part for tap in one.body.values() for part in tap.parts.values() if isinstance(part, torch.Tensor)
    ]
    heads = [part for part in (one.head_weight, one.head_bias) if part is not None]
    return sum(part.nbytes for part in (*parts, *one.shared.values(), *heads))


@pytest.fixture(scope="module")
def crowded() -> ServedModel:
    """Some of every method, one after the other in turn, so that their slots lie apart."""
    served, adapters = ServedModel(tiny_backbone("bert")), [packed(method) for method in MIXING]
    for _ in range(EACH):
        for one in adapters:
            served.install(one)
    return served


@pytest.mark.parametrize("method", MIXING)
def test_an_adapter_costs_its_tensors_and_a_number_in_each_table(method: str, crowded: ServedModel) -> None:
    """At most an eighth to spare, and not a number for each of some hundred parts of other methods."""
    one, before = packed(method), crowded.nbytes
    slots = [crowded.install(one) for _ in range(64)]
    cost = (crowded.nbytes - before) / len(slots)
    for slot in slots:
        crowded.remove(slot)
    # Banks grow by an eighth of what they hold already, which is as much as 8 of the 64 here.
    assert cost <= 1.4 * tensors_bytes(one) + INDEX_BYTES


def test_there_are_as_many_tables_as_mixtures_ask_for(crowded: ServedModel) -> None:
    parts = list(crowded._banks._parts())
    tables = {part.table for part in parts}
    assert tables == set(crowded._banks._tables)
    assert len(tables) <= 2 * len(MIXING) < len(parts)
    assert sum(len(table.parts) for table in tables) == len(parts)
