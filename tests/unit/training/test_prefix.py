"""Passes that begin at the lowest adapted layer: the same as whole ones, forward and backward."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modeling import FAMILIES, METHODS, Adapter, Backbone, HeadSpec, Site, Wanted, readout_of
from tests.conformance.options import tiny_options
from tests.tiny import VARIANTS, random_backbone, random_texts, tiny_backbone
from tests.unit.training.conftest import counted
from training.loop.encode import Rows, encode_items
from training.loop.passes import features, packed_rows, trained
from training.loop.prefix import Below, StatesBelow, fill, lowest_layer, room_below
from training.rows.items import ChoiceItem, Item

STACKS = [family for family in FAMILIES if tiny_backbone(family).layers]
IN_LAYERS = [m for m in METHODS if "layers" in METHODS[m].options() and m != "full"]
SPEC = HeadSpec("single_label", ("a", "b", "c"))


def rows_on(backbone: Backbone, count: int = 7) -> Rows:
    return encode_items(backbone, random_texts(count, seed=3), 32)


def moved(backbone: Backbone, method: str, **options: Any) -> Adapter:
    """An adapter away from its start."""
    adapter = Adapter.create(backbone, METHODS[method].from_config(tiny_options(method) | options), SPEC)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return adapter


def filled(backbone: Backbone, rows: Rows, layer: int, **options: Any) -> StatesBelow:
    below = room_below(backbone, rows, rows_on(backbone, 1), layer, **options).train
    assert below is not None
    fill(backbone, rows, below)
    return below


def gradients(backbone: Backbone, adapter: Adapter, rows: Rows, below: StatesBelow | None) -> list[Tensor]:
    """The loss of rows out of order, and what it gives every parameter."""
    chosen = [4, 0, 5, 2]
    batch = packed_rows(backbone, rows, chosen, 0, below)
    wanted = Wanted(torch.tensor([0, 2, 1, 0]))
    assert adapter.head is not None
    parameters = [*adapter.body_parameters(), *adapter.head.parameters()]
    with adapter.attached(backbone):
        loss = readout_of(SPEC).loss(backbone, batch, SPEC, adapter.head, wanted)
        return [loss.detach(), *torch.autograd.grad(loss, parameters)]


def test_which_families_are_plain_stacks_is_said_by_them() -> None:
    assert set(STACKS) >= {"bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert", "modernbert"}


@pytest.mark.parametrize("family", STACKS)
@pytest.mark.parametrize("method", IN_LAYERS)
def test_a_pass_from_the_lowest_adapted_layer_gives_the_same_answers_and_gradients(
    family: str, method: str
) -> None:
    backbone = tiny_backbone(family)
    adapter, rows = moved(backbone, method, layers=[1]), rows_on(backbone)
    assert lowest_layer(backbone, adapter) == 1
    below = filled(backbone, rows, 1)
    whole = gradients(backbone, adapter, rows, None)
    for found, wanted in zip(gradients(backbone, adapter, rows, below), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    with adapter.attached(backbone):
        begun, every = (trained(backbone, adapter, rows, states).logits for states in (below, None))
    np.testing.assert_allclose(begun, every, rtol=1e-5, atol=1e-6)


def test_layers_that_share_weights_in_groups_are_layers_of_their_own() -> None:
    backbone = random_backbone(VARIANTS["albert with two groups"])
    rows = rows_on(backbone)
    for layer in (1, 2, 3):
        adapter = moved(backbone, "hadamard", layers=[layer])
        below = filled(backbone, rows, layer)
        with counted(backbone.layers[0]) as calls:
            found = gradients(backbone, adapter, rows, below)
        assert calls == []
        for got, wanted in zip(found, gradients(backbone, adapter, rows, None), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", STACKS)
def test_no_layer_below_runs_or_keeps_anything_for_the_backward_pass(family: str) -> None:
    backbone = tiny_backbone(family)
    adapter, rows = moved(backbone, "hadamard", layers=[1]), rows_on(backbone)
    below = filled(backbone, rows, 1)
    with counted(backbone.layers[0]) as calls:
        gradients(backbone, adapter, rows, below)
    assert calls == []
    with counted(backbone.layers[0]) as calls:
        gradients(backbone, adapter, rows, None)
    assert [output.requires_grad for output in calls] == [False]
    assert all("forward" not in vars(layer) and not layer._forward_hooks for layer in backbone.layers)


@pytest.mark.parametrize("family", STACKS)
def test_features_give_the_same_states_as_a_pass_of_their_own(family: str) -> None:
    backbone = tiny_backbone(family)
    texts: list[Item] = [ChoiceItem("w1 w2", ("w3", "w4 w5")), ChoiceItem("w6", ("w7 w8 w9", "w1"))]
    rows = encode_items(backbone, texts, 32)
    alone = filled(backbone, rows, 2)
    beside = StatesBelow.room(backbone, rows, 2, torch.float32)
    plain = features(backbone, rows, SPEC, lambda: None)
    found = features(backbone, rows, SPEC, lambda: None, below=beside)
    torch.testing.assert_close(found.values, plain.values)
    torch.testing.assert_close(beside.states, alone.states, rtol=1e-5, atol=1e-6)
    for text, encoded in enumerate(rows.encoded):
        own = slice(int(beside.starts[text]), int(beside.starts[text] + beside.lengths[text]))
        entering = backbone.states_entering(backbone.pack([encoded]), 2)
        torch.testing.assert_close(beside.states[own], entering, rtol=1e-5, atol=1e-6)


def test_what_needs_a_whole_pass_has_no_lowest_layer() -> None:
    bert, t5 = tiny_backbone("bert"), tiny_backbone("t5")
    prompt = moved(bert, "prompt_tuning")
    assert lowest_layer(bert, prompt) == 0
    (tap, module) = next(iter(prompt.body.items()))
    prompt.body = {replace(tap, site=Site.FINAL_NORM): module}  # wherever virtual tokens get their states
    assert lowest_layer(bert, prompt) == 0
    prompt.body = {}
    assert (prompt.virtual_tokens, lowest_layer(bert, prompt)) == (0, 2), "it has none any more"
    assert lowest_layer(bert, moved(bert, "full")) == 0
    assert lowest_layer(bert, moved(bert, "intrinsic_said")) == 0
    assert lowest_layer(bert, moved(bert, "bitfit")) == 0
    assert lowest_layer(bert, moved(bert, "linear_probe")) == 2
    eos = HeadSpec("single_label", ("a", "b"), pooling="eos")
    last = METHODS["hadamard"].from_config({"layers": [1]})
    assert lowest_layer(t5, Adapter.create(t5, last, eos)) == 0


def test_a_final_norm_stands_behind_all_layers() -> None:
    backbone = tiny_backbone("modernbert")
    adapter = moved(backbone, "compacter", layers=[1])
    assert lowest_layer(backbone, adapter) == 1
    adapter.body = {tap: act for tap, act in adapter.body.items() if tap.site == "final_norm"}
    assert lowest_layer(backbone, adapter) == 2


def test_a_budget_that_does_not_reach_is_told_and_shared_by_both_splits() -> None:
    backbone = tiny_backbone("bert")
    rows, few = rows_on(backbone), rows_on(backbone, 2)
    size, small = (sum(map(len, r.encoded)) * backbone.hidden_size * 4 for r in (rows, few))
    all_fits = room_below(backbone, rows, few, 1, max_bytes=size + small)
    assert (all_fits.train is not None, all_fits.validation is not None, all_fits.told) == (True, True, ())
    less = room_below(backbone, rows, few, 1, max_bytes=size + small - 1)
    assert (less.train is not None, less.validation) == (True, None)
    assert "layer 1 of all validation rows" in less.told[0]
    none = room_below(backbone, rows, few, 1, max_bytes=small)
    assert (none.train, none.validation is not None) == (None, True)
    narrow = room_below(backbone, rows, few, 1, max_bytes=size // 2 + small, rounded=True)
    assert narrow.train is not None
    assert narrow.validation is not None
    assert (narrow.train.states.dtype, narrow.validation.states.dtype) == (torch.bfloat16, torch.float32)
    assert room_below(backbone, rows, few, 0) == Below()


def test_states_kept_in_bfloat16_enter_as_the_backbone_computes() -> None:
    backbone = tiny_backbone("bert")
    rows = rows_on(backbone)
    size = sum(map(len, rows.encoded)) * backbone.hidden_size * 4
    below = filled(backbone, rows, 1, max_bytes=size // 2, rounded=True)
    adapter = moved(backbone, "hadamard", layers=[1])
    (near, *_), (exact, *_) = (gradients(backbone, adapter, rows, b) for b in (below, None))
    assert near.dtype == torch.float32
    assert 0 < abs(near - exact) < 0.05 * exact


def test_states_of_other_texts_and_unknown_ones_are_not_read() -> None:
    backbone = tiny_backbone("bert")
    rows, others = rows_on(backbone), encode_items(backbone, ["w1", "w2 w3", "w4"], 32)
    below = filled(backbone, rows, 1)
    with pytest.raises(AssertionError, match="of other texts"):
        packed_rows(backbone, others, [0, 1], 0, below)
    empty = StatesBelow.room(backbone, rows, 1, torch.float32)
    with pytest.raises(AssertionError, match="before they are known"):
        packed_rows(backbone, rows, [0, 1], 0, empty)
