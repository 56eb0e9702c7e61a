"""In bfloat16 the fast path is no farther from float32 than the reference path is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from modeling import Adapter, Backbone, Encoded, ServedModel, fast
from modeling.kernels.library import levels, opened
from modeling.plan import has_products
from tests.conformance.test_fast_path import ACTING, FAST, PER_ROW, mixed, needs_kernels, parameters, ragged
from tests.tiny import tiny_backbone

pytestmark = [
    needs_kernels,
    pytest.mark.skipif(not has_products(torch.bfloat16), reason="this processor has no products of bfloat16"),
]
# Of the distance of the reference path from float32, over all states of a batch: these batches are small.
NO_FARTHER = 1.05


def three(
    family: str, methods: Sequence[str | None]
) -> tuple[Backbone, list[Adapter | None], list[ServedModel], list[int]]:
    """Float32, and bfloat16 on the reference path and on the fast path, with the same adapters."""
    exact, rounded = tiny_backbone(family), tiny_backbone(family)
    rounded.round_to(torch.bfloat16)
    adapters = mixed(exact, methods)
    models = [ServedModel(exact, fast=False), ServedModel(rounded, fast=False), ServedModel(rounded)]
    slots = [[model.install(a.pack()) if a else 0 for a in adapters] for model in models]
    assert slots[0] == slots[1] == slots[2]
    return exact, adapters, models, [models[0].placement(slot).body_slot if slot else 0 for slot in slots[0]]


def check_no_farther(
    models: Sequence[ServedModel], encoded: Sequence[Encoded], bodies: Sequence[int]
) -> None:
    exact, reference, quick = (torch.cat(model.hidden(encoded, bodies)).double() for model in models)
    assert models[2].passes == {"fast": 1, "reference": 0}
    assert models[1].passes["fast"] == 0
    far, mine = ((states - exact).square().mean().sqrt() for states in (reference, quick))
    assert 0 < mine <= NO_FARTHER * far


@pytest.mark.parametrize("family", FAST)
@pytest.mark.parametrize("method", [None, *ACTING])
def test_a_method_beside_itself_and_bare_rows(family: str, method: str | None) -> None:
    backbone, _, models, bodies = three(family, [method, None, method, None, *[method] * 8])
    check_no_farther(models, ragged(backbone, len(bodies)), bodies)


@pytest.mark.parametrize("family", FAST)
def test_all_methods_in_one_batch(family: str) -> None:
    backbone, _, models, bodies = three(family, [None, *PER_ROW, None, *PER_ROW])
    check_no_farther(models, ragged(backbone, len(bodies)), bodies)


@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
def test_every_set_of_instructions(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if level not in levels():
        pytest.skip(f"this processor has no {level}")
    monkeypatch.setattr(fast, "kernels", lambda: opened(level))
    backbone, _, models, bodies = three("bert", [None, *PER_ROW])
    check_no_farther(models, ragged(backbone, len(bodies)), bodies)


@pytest.mark.parametrize("long", [1, 9])
def test_long_rows_take_the_librarys_attention(long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fast._LONG, torch.bfloat16, long)
    backbone, _, models, bodies = three("bert", [None, "hadamard", "lora", "ia3", "hadamard", "bitfit"])
    check_no_farther(models, ragged(backbone, len(bodies)), bodies)


def rows_of(model: ServedModel, encoded: Sequence[Encoded], bodies: Sequence[int]) -> list[Tensor]:
    states = model.hidden(encoded, bodies)
    assert states[0].dtype == torch.bfloat16
    return states


@pytest.mark.parametrize("method", ACTING)
def test_a_poisoned_row_is_seen_and_its_neighbours_keep_their_bits(method: str) -> None:
    other = "lora" if method != "lora" else "houlsby"
    backbone, adapters, (_, _, model), bodies = three("bert", [method, method, None, other])
    encoded, adapter = ragged(backbone, 4), adapters[0]
    clean = rows_of(model, encoded, bodies)
    assert adapter is not None
    for values in parameters(adapter):
        kept = values.flatten()[-1].item()
        values.view(-1)[-1] = float("nan")
        model.remove(1)
        assert model.install(adapter.pack()) == 1
        got = rows_of(model, encoded, bodies)
        assert not got[0].isfinite().all()
        for mine, before in zip(got[1:], clean[1:], strict=True):
            assert torch.equal(mine, before)
        values.view(-1)[-1] = kept
