"""Blocks and biases with a trained output layer: it and what is tied to it move, for their own rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from modeling import METHODS, Adapter, AdapterError, Backbone, Encoded, HeadSpec, decoding
from modeling.counts import count, empty_model
from tests.conformance import checks
from tests.conformance.options import tiny_options
from tests.tiny import CONFIGS, VARIANTS, random_backbone, random_texts, tiny_backbone

METHODS_WITH_IT = [name for name, method in METHODS.items() if hasattr(method, "train_output_layer")]
CONFIG: dict[str, Any] = {"train_output_layer": True, "division": 2, "bottleneck": 4}
SPEC = HeadSpec("text_to_text", ("w1", "w2 w3"), pooling="none")
MODELS = {
    "t5": (CONFIGS["t5"], "shared.weight"),
    "t5 v1.1": (VARIANTS["t5 v1.1"], "lm_head.weight"),
    "bart": (CONFIGS["bart"], "model.shared.weight"),
}


def trained(backbone: Backbone) -> Adapter:
    """A Compacter adapter with an output layer, both moved."""
    return checks.trained(backbone, "compacter", SPEC, 4, CONFIG, size=0.1)


def answers(backbone: Backbone, encoded: Sequence[Encoded]) -> tuple[Tensor, list[list[int]]]:
    """Log probabilities of both labels, and what is written, with whatever is attached."""
    batch, labels = backbone.pack(encoded), backbone.label_ids(SPEC.labels)
    return decoding.label_logits(backbone, batch, labels), decoding.generate_ids(backbone, batch, 6)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_a_backbone_with_that_layer_under_the_same_blocks(name: str) -> None:
    config, tensor = MODELS[name]
    backbone, other = random_backbone(config), random_backbone(config)
    adapter = trained(backbone)
    tensors = adapter.to_tensors()
    layer = tensors.pop(f"weights/{tensor}")
    plain = METHODS["compacter"].from_config(CONFIG | {"train_output_layer": False})
    other.model.get_parameter(tensor).data.copy_(layer)
    blocks = Adapter.from_tensors(other, plain, SPEC, tensors)
    encoded = backbone.text.encode(random_texts(5, seed=2))
    with adapter.attached(backbone), torch.no_grad():
        got, written = answers(backbone, encoded)
    with blocks.attached(other), torch.no_grad():
        want, wanted = answers(other, encoded)
        torch.testing.assert_close(got, want, **checks.TOLERANCE)
        assert written == wanted
    with torch.no_grad():
        assert (answers(backbone, encoded)[0] - got).abs().max() > 1e-2


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", METHODS_WITH_IT)
def test_every_such_method_is_served_in_batches_of_its_own(name: str, method: str) -> None:
    options = tiny_options(method) | {"train_output_layer": True}
    config, tensor = MODELS[name]
    assert not checks.exclusive(method)
    kinds = [
        spec for spec in checks.SEQ2SEQ_SPECS if spec.kind == "text_to_text" or tensor != "lm_head.weight"
    ]
    checks.check_exclusive(random_backbone(config), method, random_texts(3, seed=1), options, kinds)


def test_gradients_reach_blocks_norms_and_the_layer() -> None:
    backbone = tiny_backbone("t5")
    adapter = trained(backbone)
    with adapter.attached(backbone):
        batch = backbone.pack(backbone.text.encode(["w3 w4"]))
        loss = decoding.target_loss(backbone, batch, backbone.label_ids(["w1"]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapter.body_parameters())
    assert all(p.grad is None for p in backbone.model.parameters())


def test_it_counts_as_blocks_and_layer() -> None:
    model = empty_model(CONFIGS["t5"])
    with_layer, without = (
        count(METHODS["compacter"].from_config(CONFIG | {"train_output_layer": flag}), CONFIGS["t5"], model)
        for flag in (True, False)
    )
    layer: Any = model.get_parameter("shared.weight")
    assert with_layer.parameters - without.parameters == layer.numel()
    assert without.head_parameters == layer.numel()
    assert with_layer.head_parameters == 0  # it is counted once
    assert len(METHODS_WITH_IT) == 8
    assert with_layer.parameters == trained(random_backbone(CONFIGS["t5"])).num_body_parameters


def test_an_encoder_has_no_output_layer() -> None:
    method = METHODS["compacter"].from_config(CONFIG)
    with pytest.raises(AdapterError, match="train_output_layer needs an encoder-decoder"):
        Adapter.create(tiny_backbone("bert"), method, HeadSpec("single_label", ("a", "b")))


def test_a_head_does_not_read_an_output_layer_of_its_own() -> None:
    """Tied to the embedding it is read by every task; else it would only make the file large."""
    method, spec = METHODS["compacter"].from_config(CONFIG), HeadSpec("single_label", ("a", "b"), "eos")
    untied, tied = (random_backbone(MODELS[name][0]) for name in ("t5 v1.1", "t5"))
    with pytest.raises(AdapterError, match="train_output_layer needs a text_to_text task on this backbone"):
        Adapter.create(untied, method, spec)
    assert "weights/shared.weight" in Adapter.create(tied, method, spec).to_tensors()
