"""Parts of an adapter off and on: as an adapter made by hand whose tensors there change nothing."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from modeling import METHODS, Adapter, Backbone, HeadSpec
from modeling.sites import ALL_NORM_SITES
from modeling.switches import Switch, only, switches_of
from tests.conformance import checks
from tests.tiny import random_texts, tiny_backbone

AT_TAPS = [name for name in METHODS if not checks.exclusive(name) and name != "linear_probe"]
MODELS = ["bert", "deberta", "t5", "bart"]
LABELS = HeadSpec("text_to_text", ("w1", "w2 w3"), pooling="none")


def spec_of(backbone: Backbone) -> HeadSpec:
    return LABELS if backbone.is_encoder_decoder else checks.SPECS[0]


def reset(adapter: Adapter, backbone: Backbone, switch: Switch) -> Adapter:
    """The adapter from its own tensors, those of a switch at values that change nothing."""
    tensors = adapter.to_tensors()
    for tap in switch.taps:
        fresh = adapter.method.build(tap, frozen_at(backbone, tap.path), adapter.shared)
        for name, start in fresh.named_parameters():
            neutral = start.detach().clone()
            if tap.site not in ALL_NORM_SITES and (name == "b" or name.startswith("up.")):
                neutral.zero_()  # an update or a block of nothing
            tensors[f"{tap.key}/{name}"] = neutral
    return Adapter.from_tensors(backbone, adapter.method, adapter.spec, tensors)


def frozen_at(backbone: Backbone, path: str) -> torch.nn.Module:
    return backbone.model.get_submodule(path)


@pytest.mark.parametrize("model", ["bert", "t5"])
@pytest.mark.parametrize("method", [name for name in AT_TAPS if name != "prompt_tuning"])
def test_off_is_an_adapter_made_by_hand_that_changes_nothing_there(method: str, model: str) -> None:
    backbone = tiny_backbone(model)
    adapter = checks.trained(backbone, method, spec_of(backbone), 3, size=0.2)
    encoded = backbone.text.encode(random_texts(4, seed=1))
    switches = switches_of(adapter)
    with torch.no_grad():
        whole = checks.logits_of(backbone, adapter, encoded)
        for off in switches:
            got = checks.logits_of(backbone, only(adapter, [s for s in switches if s is not off]), encoded)
            want = checks.logits_of(backbone, reset(adapter, backbone, off), encoded)
            torch.testing.assert_close(got, want, **checks.TOLERANCE)
            assert (got - whole).abs().max() > 1e-4, off.name
        alone = adapter
        for off in switches[1:]:
            alone = reset(alone, backbone, off)
        got = checks.logits_of(backbone, only(adapter, switches[:1]), encoded)
        torch.testing.assert_close(got, checks.logits_of(backbone, alone, encoded), **checks.TOLERANCE)


@pytest.mark.parametrize("model", ["bert", "t5"])
@pytest.mark.parametrize("method", [*AT_TAPS, "full", "intrinsic_said"])
def test_nothing_on_is_the_frozen_model_under_the_same_head(method: str, model: str) -> None:
    backbone = tiny_backbone(model)
    adapter = checks.trained(backbone, method, spec_of(backbone), 3)
    probe = checks.new(backbone, "linear_probe", adapter.spec)
    probe.head = adapter.head
    encoded = backbone.text.encode(random_texts(4, seed=1))
    with torch.no_grad():
        bare, plain = (checks.logits_of(backbone, one, encoded) for one in (only(adapter, ()), probe))
        moved = checks.logits_of(backbone, adapter, encoded)
    assert torch.equal(bare, plain)
    assert (moved - plain).abs().max() > 1e-4


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", AT_TAPS)
def test_every_tap_has_one_switch_and_every_number_is_counted(method: str, model: str) -> None:
    backbone = tiny_backbone(model)
    adapter = checks.new(backbone, method, spec_of(backbone))
    switches = switches_of(adapter)
    taps = list(chain.from_iterable(switch.taps for switch in switches))
    assert len(taps) == len(set(taps))
    assert set(taps) == set(adapter.body)
    shared = sum(parameter.numel() for parameter in adapter.shared.values())
    assert sum(switch.parameters for switch in switches) + shared == adapter.num_body_parameters
    assert len({switch.name for switch in switches}) == len(switches)


def test_layers_are_named_by_their_stack_where_there_are_two() -> None:
    encoder, both = (
        [switch.name for switch in switches_of(checks.new(backbone, "bitfit", spec_of(backbone)))]
        for backbone in (tiny_backbone("bert"), tiny_backbone("t5"))
    )
    assert encoder == ["layer 0", "layer 1"]
    assert both == [
        "encoder layer 0",
        "encoder layer 1",
        "decoder layer 0",
        "decoder layer 1",
        "decoder output layer's shift",
    ]


def test_cross_attention_goes_with_the_decoders_layer() -> None:
    backbone = tiny_backbone("t5")
    adapter = checks.new(backbone, "lora", LABELS)
    stacks = [{tap.stack for tap in switch.taps} for switch in switches_of(adapter)]
    assert stacks == [{"encoder"}, {"encoder"}, {"decoder", "cross"}, {"decoder", "cross"}]


def test_without_its_prompt_a_text_has_no_virtual_tokens() -> None:
    adapter = checks.new(tiny_backbone("bert"), "prompt_tuning", checks.SPECS[0])
    (prompt,) = switches_of(adapter)
    assert (prompt.name, prompt.layer) == ("prompt", None)
    assert adapter.virtual_tokens == only(adapter, [prompt]).virtual_tokens == 5
    assert only(adapter, ()).virtual_tokens == 0


@pytest.mark.parametrize("method", ["full", "intrinsic_said", "linear_probe"])
def test_what_acts_in_no_layer_has_no_switch(method: str) -> None:
    assert switches_of(checks.new(tiny_backbone("bert"), method, checks.SPECS[0])) == ()


def test_a_trained_output_layer_is_a_switch_of_its_own() -> None:
    backbone = tiny_backbone("t5")
    adapter = checks.trained(backbone, "bitfit", LABELS, 2, {"train_output_layer": True}, size=0.1)
    *_, layer = switches = switches_of(adapter)
    assert (layer.name, layer.weights, layer.layer) == ("output layer", True, None)
    assert layer.parameters == backbone.model.get_parameter("shared.weight").numel()
    plain = METHODS["bitfit"].from_config({})
    tensors = {n: t for n, t in adapter.to_tensors().items() if not n.startswith("weights/")}
    biases = Adapter.from_tensors(backbone, plain, LABELS, tensors)
    encoded = backbone.text.encode(random_texts(3, seed=1))
    with torch.no_grad():
        got = checks.logits_of(backbone, only(adapter, switches[:-1]), encoded)
        torch.testing.assert_close(got, checks.logits_of(backbone, biases, encoded), **checks.TOLERANCE)
        whole = checks.logits_of(backbone, adapter, encoded)
    assert (whole - got).abs().max() > 1e-3
