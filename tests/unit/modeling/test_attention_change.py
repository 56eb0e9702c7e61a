"""How far an adapter moves the output of each attention head: closed forms, and batches as texts alone."""

from __future__ import annotations

import pytest
import torch

from modeling import Adapter, HeadSpec
from modeling.attention_change import attention_taps, changes, sizes
from tests.conformance import checks
from tests.tiny import random_texts, tiny_backbone

SPEC = checks.SPECS[0]
HEADS, COLUMNS = 4, 8  # of the tiny backbones


def moved_in_one_head(adapter: Adapter, layer: int, head: int, scale: float) -> None:
    for tap in attention_taps(adapter):
        if tap.layer == layer:
            with torch.no_grad():
                adapter.body[tap].get_parameter("scale")[head * COLUMNS : (head + 1) * COLUMNS] = scale


@pytest.mark.parametrize("model", ["bert", "deberta", "distilbert", "modernbert"])
def test_a_scale_moves_its_head_by_what_it_is_off_one(model: str) -> None:
    backbone = tiny_backbone(model)
    adapter = checks.new(backbone, "hadamard", SPEC)
    moved_in_one_head(adapter, 1, 2, 0.75)
    found = changes(adapter, backbone, backbone.text.encode(random_texts(5, seed=2)))
    wanted = torch.zeros(2, HEADS)
    wanted[1, 2] = 0.25
    assert [tap.layer for tap in found] == [0, 1]
    for tap, by_text in found.items():
        torch.testing.assert_close(by_text, wanted[tap.layer].expand(5, HEADS))
    of_size = {tap.layer: scale for tap, (scale, _) in sizes(adapter, backbone).items()}
    torch.testing.assert_close(torch.stack([of_size[0], of_size[1]]), wanted)


@pytest.mark.parametrize("model", ["bert", "deberta", "t5"])
def test_texts_of_a_batch_are_told_as_each_alone(model: str) -> None:
    """Packed in another order, and on a padded grid, whose padding must not count."""
    backbone = tiny_backbone(model)
    pooling = "eos" if backbone.is_encoder_decoder else "mean"
    adapter = checks.trained(backbone, "hadamard", HeadSpec("single_label", ("a", "b"), pooling), 1)
    encoded = backbone.text.encode(random_texts(6, seed=4))
    together = changes(adapter, backbone, encoded)
    assert {tap.stack for tap in together} == {"encoder"}
    for row, text in enumerate(encoded):
        for tap, alone in changes(adapter, backbone, [text]).items():
            torch.testing.assert_close(together[tap][row], alone[0], rtol=1e-4, atol=1e-5)


def test_a_shift_counts_beside_the_output_that_it_moves() -> None:
    """|b| sqrt(T) / |A|, with A read off the frozen model's own module."""
    backbone = tiny_backbone("bert")
    adapter = checks.new(backbone, "hadamard", SPEC)
    tap = attention_taps(adapter)[0]
    shift = torch.arange(32, dtype=torch.float32)
    with torch.no_grad():
        adapter.body[tap].get_parameter("shift").copy_(shift)
    seen: list[torch.Tensor] = []
    (encoded,) = backbone.text.encode(["w1 w2 w3 w4"])
    handle = backbone.model.get_submodule(tap.path).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][0])
    )
    with torch.no_grad(), backbone.running(backbone.pack([encoded])):
        handle.remove()
    before = seen[0].view(len(encoded), HEADS, COLUMNS).square().sum((0, 2)).sqrt()
    size = shift.view(HEADS, COLUMNS).square().sum(1).mul(len(encoded)).sqrt()
    torch.testing.assert_close(changes(adapter, backbone, [encoded])[tap][0], size / before)
    want = shift.view(HEADS, COLUMNS).square().mean(1).sqrt()
    torch.testing.assert_close(sizes(adapter, backbone)[tap][1], want)


def test_nothing_is_left_on_the_adapter() -> None:
    backbone = tiny_backbone("bert")
    adapter = checks.new(backbone, "hadamard", SPEC)
    changes(adapter, backbone, backbone.text.encode(["w1"]))
    assert not any(module._forward_hooks for module in adapter.body.values())


def test_an_adapter_elsewhere_has_no_attention_heads() -> None:
    backbone = tiny_backbone("bert")
    for adapter in (
        checks.new(backbone, "lora", SPEC),
        checks.new(backbone, "hadamard", SPEC, config={"placement": "post_dense"}),
    ):
        assert changes(adapter, backbone, backbone.text.encode(["w1"])) == {}
        assert sizes(adapter, backbone) == {}
