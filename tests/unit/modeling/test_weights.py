"""Other weights in a model for a while: tied parameters, single places, gradients, all put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modeling import METHODS, Adapter, HeadSpec, ServedModel, backbone, decoding
from modeling.weights import OwnParameters, replaced
from tests.tiny import tiny_backbone

SPEC = HeadSpec("text_to_text", ("w1", "w2"), pooling="none")


def test_tied_parameters_move_together_and_come_back() -> None:
    model = tiny_backbone("t5").model
    names, before = [n for n, _ in model.named_parameters()], model.get_parameter("shared.weight")
    other = torch.zeros_like(before, requires_grad=True)
    with replaced(OwnParameters(model), {"shared.weight": other}):
        for path in ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
            assert model.get_submodule(path).weight is other
    assert [n for n, _ in model.named_parameters()] == names
    assert model.get_submodule("lm_head").weight is before


def test_another_name_of_a_tied_parameter_stands_for_that_place() -> None:
    model = tiny_backbone("t5").model
    kept, other = model.get_parameter("shared.weight").detach(), torch.zeros(84, 32)
    with replaced(OwnParameters(model), {"lm_head.weight": kept, "shared.weight": other}):
        assert model.get_submodule("lm_head").weight is kept
        assert model.get_submodule("encoder.embed_tokens").weight is other


def test_an_unknown_name_changes_nothing() -> None:
    model = tiny_backbone("bert").model
    with (
        pytest.raises(KeyError, match=r"no parameter nowhere\.weight"),
        replaced(OwnParameters(model), {"nowhere.weight": torch.ones(1)}),
    ):
        pass


@pytest.mark.parametrize("tied", ["together", "input"])
def test_said_moves_the_output_layer_or_not(tied: str) -> None:
    backbone = tiny_backbone("t5")
    method = METHODS["intrinsic_said"].from_config({"dimension": 200, "tied": tied})
    adapter = Adapter.create(backbone, method, SPEC)
    assert adapter.weights is not None
    with torch.no_grad():
        adapter.body_parameters()[0].fill_(1.0)
    weights = adapter.weights()
    assert ("lm_head.weight" in weights) == (tied == "input")
    assert (weights["shared.weight"] - backbone.model.get_parameter("shared.weight")).abs().max() > 1e-4


def test_stored_projections_are_those_of_the_seed() -> None:
    backbone = tiny_backbone("bert")
    spec = HeadSpec("regression", ("v",))
    adapters = [
        Adapter.create(
            backbone, METHODS["intrinsic_said"].from_config({"dimension": 200, "projections": p}), spec
        )
        for p in ("seed", "stored")
    ]
    for adapter in adapters:
        with torch.no_grad():
            adapter.body_parameters()[0].copy_(torch.linspace(-1, 1, adapter.body_parameters()[0].numel()))
    drawn, stored = (a.weights() for a in adapters if a.weights is not None)
    for name, weight in drawn.items():
        torch.testing.assert_close(stored[name], weight)
    tensors = adapters[1].to_tensors()
    assert "weights/embeddings.word_embeddings.weight.permutation" in tensors
    again = Adapter.from_tensors(backbone, adapters[1].method, spec, tensors)
    assert all(torch.equal(t, tensors[n]) for n, t in again.to_tensors().items())


@pytest.mark.parametrize("form", ["served", "training"])
def test_a_whole_generation_puts_the_weights_in_place_once(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tiny_backbone("t5")
    adapter = Adapter.create(own, METHODS["full"].from_config({}), SPEC)
    texts, places = own.text.encode(["w1 w2", "w3"]), 0

    def counted(*args: Any) -> Any:
        nonlocal places
        places += 1
        return replaced(*args)

    monkeypatch.setattr(backbone, "replaced", counted)
    if form == "served":
        served = ServedModel(own)
        slot = served.install(adapter.pack())
        written = served.generate_ids(texts, [slot, slot], 6)
    else:
        with adapter.attached(own):
            written = decoding.generate_ids(own, own.pack(texts), 6)
    assert max(map(len, written)) > 1  # of several decoder passes
    assert places == 1
