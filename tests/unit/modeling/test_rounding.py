"""Whether a backbone may run in bfloat16: what is compared, and what that says of brittle weights."""

from __future__ import annotations

import pytest
import torch

from modeling import FAMILIES, rounding
from tests.tiny import tiny_backbone


def test_states_that_are_off_are_measured_in_the_distance_of_texts() -> None:
    exact = torch.tensor([[1.0, 10.0], [-1.0, 10.0]])  # each 1 from their mean, whatever they have in common
    assert rounding.disagreement(exact, exact) == 0.0
    assert rounding.disagreement(exact, exact + torch.tensor([0.3, 0.4])) == pytest.approx(0.5)
    one_off = exact.clone()
    one_off[1, 0] += 0.2
    assert rounding.disagreement(exact, one_off) == pytest.approx(0.2)
    assert rounding.disagreement(exact, exact * torch.nan) == float("inf")
    assert rounding.disagreement(exact[:1], exact[:1]) == float(
        "inf"
    )  # texts that are all alike tell nothing
    assert [rounding.agrees(off) for off in (0.0, 0.05, 0.2, float("inf"))] == [True, True, False, False]


@pytest.mark.parametrize("family", [*FAMILIES])
def test_rounding_a_backbone_is_loading_it_rounded(family: str) -> None:
    """And its states are near those of float32."""
    backbone = tiny_backbone(family)
    exact = rounding.states_of_texts(backbone)
    digest = backbone.weights_digest
    backbone.round_to(torch.bfloat16)
    assert backbone.dtype == torch.bfloat16
    assert {p.dtype for p in backbone.parameters.parameters()} == {torch.bfloat16}
    assert backbone.weights_digest == digest
    states = rounding.states_of_texts(backbone)
    assert states.dtype == torch.float32
    assert 0.0 < rounding.disagreement(exact, states) < 0.2


def test_weights_that_rounding_breaks_are_noticed() -> None:
    """A large constant in the states leaves no digits for what tells texts apart."""
    backbone = tiny_backbone("bert")
    with torch.no_grad():
        for layer in backbone.layers:
            norm = layer.get_submodule("output.LayerNorm")
            assert isinstance(norm, torch.nn.LayerNorm)
            norm.bias.add_(500.0)
    exact = rounding.states_of_texts(backbone)
    backbone.round_to(torch.bfloat16)
    assert not rounding.agrees(rounding.disagreement(exact, rounding.states_of_texts(backbone)))


def test_a_processor_without_fast_products_keeps_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone("bert")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert rounding.refusal_of_bfloat16(backbone) == "this processor has no fast products of bfloat16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert rounding.refusal_of_bfloat16(backbone) is None
