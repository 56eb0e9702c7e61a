"""Every family: its taps exist, and slot 0 of a packed batch is the untouched, padded library model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modeling import FAMILIES, Backbone, Encoded, ServedModel, Site
from tests.conformance import checks
from tests.tiny import CONFIGS, minilm, minilm_as, random_texts, tiny_backbone, tiny_model


def padded_hidden(model: Any, encoded: list[Encoded], *, types: bool) -> list[Tensor]:
    """The library's own way: one padded batch with an attention mask -> [T_i, H] per row."""
    longest = max(map(len, encoded))
    pad = model.config.pad_token_id
    ids = torch.tensor([e.ids + [pad] * (longest - len(e)) for e in encoded])
    kinds = torch.tensor([e.type_ids + [0] * (longest - len(e)) for e in encoded])
    mask = torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in encoded])
    kwargs = {"token_type_ids": kinds} if types else {}
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask, **kwargs).last_hidden_state
    return [row[: len(e)] for row, e in zip(hidden, encoded, strict=True)]


def assert_slot_0_is(backbone: Backbone, model: Any, texts: list[str | tuple[str, str]]) -> None:
    encoded = backbone.text.encode(texts)
    want = padded_hidden(model, encoded, types=model.config.type_vocab_size > 1)
    served = ServedModel(backbone)
    for adapter in (checks.trained(backbone, m, checks.SPECS[0], 1) for m in ("hadamard", "bitfit")):
        served.install(adapter.pack())  # resident but not asked for
    for got, expected in zip(served.hidden(encoded, [0] * len(texts)), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tap_resolves_and_every_site_is_there(family: str) -> None:
    backbone = tiny_backbone(family)
    assert {tap.site for tap in backbone.taps} == set(Site) - {Site.EMBED}
    assert len({tap.key for tap in backbone.taps}) == len(backbone.taps)
    for tap in backbone.taps:
        module = backbone.model.get_submodule(tap.path)
        if isinstance(module, nn.Linear):
            assert (module.in_features, module.out_features) == (tap.dim_in, tap.dim_out)
        else:
            assert isinstance(module, nn.LayerNorm)


@pytest.mark.parametrize("family", FAMILIES)
def test_slot_0_is_the_untouched_library_model(family: str) -> None:
    assert_slot_0_is(tiny_backbone(family), tiny_model(family), random_texts(20, seed=2))


REAL: list[str | tuple[str, str]] = [
    "A man plays the guitar.",
    ("Is it raining?", "The sun is out, not a cloud."),
    "",
    "word " * 200,
    "Ünïcode 🙂",
]


def test_slot_0_on_real_weights_in_bert() -> None:
    from transformers import AutoModel

    from modeling.backbone import _minilm_directory

    model = AutoModel.from_pretrained(str(_minilm_directory())).eval()
    assert_slot_0_is(minilm(), model, REAL)


@pytest.mark.parametrize("model_type", ["roberta", "electra"])
def test_slot_0_and_mixed_batches_on_real_weights_in_other_classes(model_type: str) -> None:
    """The same weights in another class: the same function, so the same hidden states as minilm's own."""
    backbone, untouched = minilm_as(model_type)
    assert_slot_0_is(backbone, untouched, REAL)
    reference = ServedModel(minilm()).hidden(minilm().text.encode(REAL), [0] * len(REAL))
    own = ServedModel(backbone).hidden(backbone.text.encode(REAL), [0] * len(REAL))
    for got, expected in zip(own, reference, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_mixed_batch_on_real_weights() -> None:
    for backbone in (minilm(), minilm_as("roberta")[0], minilm_as("electra")[0]):
        checks.check_mixed_batch(backbone, ["hadamard", "bitfit", None, "ia3", "ln_tuning"], REAL)


def test_every_family_has_a_tiny_config() -> None:
    assert set(FAMILIES) == set(CONFIGS)


@pytest.mark.parametrize("stretch", [1.0, 1.5, float("inf")])
def test_how_rows_share_attention_calls_changes_nothing(
    stretch: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal lengths (the CPU's way), neighbours with padding, one padded grid (a GPU's way in float32)."""
    from modeling.packed import GROUP_STRETCH

    monkeypatch.setitem(GROUP_STRETCH, "cpu", stretch)
    for family in FAMILIES:
        assert_slot_0_is(tiny_backbone(family), tiny_model(family), random_texts(20, seed=7))
        checks.check_mixed_batch(
            tiny_backbone(family), ["hadamard", None, "bitfit"] * 3, random_texts(9, seed=8)
        )
        checks.check_gradients(tiny_backbone(family), "hadamard", random_texts(9, seed=9))
