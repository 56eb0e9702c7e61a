"""Every family: its taps exist, and slot 0 of a mixed batch is the untouched, padded library model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedTokenizerFast

from modeling import FAMILIES, Backbone, Encoded, HeadSpec, ServedModel, Site, Tap, load_backbone
from modeling.backbone import family_of
from modeling.counts import architecture
from modeling.loading import minilm_directory
from modeling.ops.norm import is_norm
from modeling.sites import ALL_NORM_SITES
from tests.conformance import checks
from tests.tiny import (
    CONFIGS,
    MINILM_CLASSES,
    VARIANTS,
    hidden_of,
    minilm,
    minilm_as,
    random_backbone,
    random_model,
    random_texts,
    tiny_backbone,
    tiny_model,
    tokenizer,
)

Texts = list[str | tuple[str, str]]
SHAPES = {**CONFIGS, **VARIANTS}
ENCODERS = [name for name, family in FAMILIES.items() if family.seq2seq is None]
EVERYWHERE = set(Site) - {Site.FFN_GATE, Site.FINAL_NORM, Site.LM_HEAD}
MORE_SITES = {
    "modernbert": {Site.FFN_GATE, Site.FINAL_NORM},
    "modernbert with biases": {Site.FFN_GATE, Site.FINAL_NORM},
    "t5": {Site.FINAL_NORM, Site.LM_HEAD},
    "t5 v1.1": {Site.FFN_GATE, Site.FINAL_NORM, Site.LM_HEAD},
    "bart": {Site.LM_HEAD},
}
REAL: Texts = [
    "A man plays the guitar.",
    ("Is it raining?", "The sun is out, not a cloud."),
    "",
    "word " * 200,
    "Ünïcode 🙂",
]
WITHOUT_TYPES = ("distilbert", "mpnet")  # where the embedded weights give the same for single texts only


def padded_hidden(model: Any, encoded: list[Encoded]) -> list[Tensor]:
    """The library's own way: one padded batch with an attention mask -> [T_i, H] of the encoder per row."""
    config, longest = model.config, max(map(len, encoded))
    ids = torch.tensor([e.ids + [config.pad_token_id] * (longest - len(e)) for e in encoded])
    kinds = torch.tensor([e.type_ids + [0] * (longest - len(e)) for e in encoded])
    mask = torch.tensor([[1] * len(e) + [0] * (longest - len(e)) for e in encoded])
    kwargs = {"token_type_ids": kinds} if getattr(config, "type_vocab_size", 0) > 1 else {}
    encoder = model.get_encoder() if config.is_encoder_decoder else model
    with torch.no_grad():
        hidden = encoder(input_ids=ids, attention_mask=mask, **kwargs).last_hidden_state
    return [row[: len(e)] for row, e in zip(hidden, encoded, strict=True)]


def assert_slot_0_is(backbone: Backbone, model: Any, texts: Texts) -> None:
    encoded = backbone.text.encode(texts)
    want = padded_hidden(model, encoded)
    served, spec = ServedModel(backbone), HeadSpec("single_label", ("a", "b"), pooling=backbone.poolings[0])
    for method in ("hadamard", "bitfit"):
        served.install(checks.trained(backbone, method, spec, 1).pack())  # resident but not asked for
    assert_all_close(served.hidden(encoded, [0] * len(texts)), want)


def assert_all_close(got: list[Tensor], want: list[Tensor]) -> None:
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_every_family_has_a_tiny_config() -> None:
    assert set(FAMILIES) == set(CONFIGS)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_tap_is_as_wide_as_it_says(shape: str) -> None:
    backbone = random_backbone(SHAPES[shape])
    assert {tap.site for tap in backbone.taps} == EVERYWHERE | MORE_SITES.get(shape, set())
    assert len({tap.key for tap in backbone.taps}) == len(backbone.taps)
    for tap in backbone.taps:
        module: Any = backbone.model.get_submodule(tap.path)
        if tap.site is Site.EMBED:
            assert isinstance(module, nn.Embedding)
            assert (module.num_embeddings, module.embedding_dim) == (tap.dim_in, tap.dim_out)
        elif tap.site in ALL_NORM_SITES:
            assert is_norm(module)
            assert module.weight.shape == (tap.dim_in,) == (tap.dim_out,)
        else:
            assert isinstance(module, nn.Linear)
            width = module.out_features if tap.columns is None else len(tap.columns)
            assert (module.in_features, width) == (tap.dim_in, tap.dim_out)


@pytest.mark.parametrize("shape", SHAPES)
def test_fused_projections_are_divided_without_gaps(shape: str) -> None:
    backbone = random_backbone(SHAPES[shape])
    fused: dict[str, list[Tap]] = {}
    for tap in backbone.taps:
        if tap.columns is not None:
            fused.setdefault(tap.path, []).append(tap)
    for path, taps in fused.items():
        module: Any = backbone.model.get_submodule(path)
        assert sorted(c for tap in taps for c in tap.columns or ()) == list(range(module.out_features))
    assert bool(fused) == (backbone.family.name in ("deberta", "modernbert"))


@pytest.mark.parametrize("shape", SHAPES)
def test_slot_0_is_the_untouched_library_model(shape: str) -> None:
    config = SHAPES[shape]
    assert_slot_0_is(random_backbone(config), random_model(config), random_texts(20, seed=2))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_loads_from_a_local_directory_with_its_own_tokenizer(family: str, tmp_path: Path) -> None:
    model: Any = tiny_model(family)
    model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(family)).save_pretrained(tmp_path)
    loaded, built = load_backbone(str(tmp_path)), tiny_backbone(family)
    assert loaded.family is built.family
    assert loaded.weights_digest == built.weights_digest
    assert loaded.num_parameters == built.num_parameters == sum(p.numel() for p in model.parameters())
    texts = random_texts(5, seed=6)
    assert loaded.text.encode(texts) == built.text.encode(texts)
    assert_slot_0_is(loaded, model, texts)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deberta-base", 138_601_728),
        ("deberta-large", 405_163_008),
        ("deberta-v2-xlarge", 884_593_152),
        ("deberta-v3-small", 141_304_320),
        ("deberta-v3-base", 183_831_552),
        ("deberta-v3-large", 434_012_160),
        ("modernbert-base", 149_014_272),
        ("modernbert-large", 394_781_696),
        ("distilbert-base", 66_362_880),
        ("distilbert-base-cased", 65_190_912),
        ("mpnet-base", 109_486_464),
        ("albert-base", 11_683_584),
        ("albert-large", 17_683_968),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    config = architecture(name)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
        family_of(config).prepare(model)
    assert sum(p.numel() for p in model.parameters()) == parameters
    for tap in family_of(config).taps(config):
        model.get_submodule(tap.path)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_text_fits_and_nothing_longer(family: str) -> None:
    """`max_tokens` is what the model really has positions for."""
    backbone = tiny_backbone(family)
    (encoded,) = backbone.text.encode([" ".join(["w1"] * 600)])
    assert encoded.truncated
    assert len(encoded) == backbone.max_tokens
    with torch.no_grad():
        assert torch.isfinite(hidden_of(backbone, [encoded])).all()
    table = getattr(backbone.config, "max_position_embeddings", None)
    if table is not None:
        assert backbone.family.first_position(backbone.config) + backbone.max_tokens == table


@pytest.mark.parametrize("family", ENCODERS)
def test_mixed_batches(family: str) -> None:
    methods = ["hadamard", "bitfit", None, "ia3", "ln_tuning", "linear_probe", "hadamard", None]
    checks.check_mixed_batch(tiny_backbone(family), methods, random_texts(len(methods), seed=3))


@pytest.mark.parametrize("shape", [name for name, c in VARIANTS.items() if not c.is_encoder_decoder])
def test_mixed_batches_in_other_shapes(shape: str) -> None:
    methods = ["hadamard", "bitfit", None, "ia3", "ln_tuning"]
    checks.check_mixed_batch(random_backbone(VARIANTS[shape]), methods, random_texts(len(methods), seed=4))


def test_slot_0_on_real_weights_in_bert() -> None:
    model = AutoModel.from_pretrained(str(minilm_directory())).eval()
    assert_slot_0_is(minilm(), model, REAL)


@pytest.mark.parametrize("model_type", MINILM_CLASSES)
def test_real_weights_in_other_classes(model_type: str) -> None:
    """The same weights in another class: the same function, so the same hidden states as minilm's own."""
    backbone, untouched = minilm_as(model_type)
    assert_slot_0_is(backbone, untouched, REAL)
    texts: Texts = [t for t in REAL if isinstance(t, str)] if model_type in WITHOUT_TYPES else REAL
    want = ServedModel(minilm()).hidden(minilm().text.encode(texts), [0] * len(texts))
    assert_all_close(ServedModel(backbone).hidden(backbone.text.encode(texts), [0] * len(texts)), want)
    checks.check_mixed_batch(backbone, ["hadamard", "bitfit", None, "ia3", "ln_tuning"], REAL)


def test_mixed_batch_on_real_weights() -> None:
    checks.check_mixed_batch(minilm(), ["hadamard", "bitfit", None, "ia3", "ln_tuning"], REAL)


@pytest.mark.parametrize("stretch", [1.0, 1.5, float("inf")])
def test_how_rows_share_attention_calls_changes_nothing(
    stretch: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal lengths (the CPU's way), neighbours with padding, one padded grid (a GPU's way in float32)."""
    from modeling.layout import GROUP_STRETCH

    monkeypatch.setitem(GROUP_STRETCH, "cpu", stretch)
    for family in FAMILIES:
        assert_slot_0_is(tiny_backbone(family), tiny_model(family), random_texts(20, seed=7))
        if family in ENCODERS:
            methods = ["hadamard", None, "bitfit"] * 3
            checks.check_mixed_batch(tiny_backbone(family), methods, random_texts(9, seed=8))
            checks.check_gradients(tiny_backbone(family), "hadamard", random_texts(9, seed=9))
