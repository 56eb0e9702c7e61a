"""What the sites of the encoder families mean: what passes a tap is what its name says, in every class."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from modeling import METHODS, Adapter, Backbone, HeadSpec, Site, Tap
from modeling.tapped import attached
from tests.conformance import checks
from tests.conformance.options import tiny_options
from tests.tiny import (
    CONFIGS,
    MINILM_CLASSES,
    VARIANTS,
    hidden_of,
    minilm,
    minilm_as,
    pooled_states,
    random_backbone,
    tiny_backbone,
    tiny_model,
)

S = Site
PLAIN_ATTENTION = ["bert", "roberta", "electra", "distilbert", "albert", "modernbert", "bart"]
SPEC = HeadSpec("single_label", ("no", "yes"))


class Recorder:
    """An act that changes nothing and keeps what passed."""

    replaces = False

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        self.seen.append(y)
        return y


def recorded(backbone: Backbone, text: str, stack: str = "encoder") -> dict[tuple[int, Site], list[Tensor]]:
    """Everything that passes the encoder's taps [T, D] when it reads one text."""
    acts: dict[Tap, Any] = {tap: Recorder() for tap in backbone.taps if tap.stack == stack}
    with torch.no_grad(), attached(backbone.model, acts):
        hidden_of(backbone, backbone.text.encode([text]))
    return {(tap.layer, tap.site): [y.flatten(0, -2) for y in act.seen] for tap, act in acts.items()}


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[T, H] -> [1, heads, T, H / heads]."""
    return x.view(x.shape[0], heads, -1).transpose(0, 1)[None]


@pytest.mark.parametrize("family", PLAIN_ATTENTION)
def test_context_is_the_attention_of_query_key_and_value(family: str) -> None:
    backbone = tiny_backbone(family)
    seen, heads = recorded(backbone, "w1 w2 w3 w4"), int(backbone.config.num_attention_heads)
    q, k, v = (heads_of(seen[0, site][0], heads) for site in (S.ATTN_Q, S.ATTN_K, S.ATTN_V))
    if family == "modernbert":
        places: Any = torch.arange(q.shape[2])[None]
        q, k = apply_rotary_pos_emb(q, k, *backbone.model.rotary_emb(q, places, "full_attention"))  # type: ignore[operator]
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    context = (scores.softmax(-1) @ v)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen[0, S.ATTN_CONTEXT][0], context, rtol=1e-5, atol=1e-5)


def test_deberta_adds_its_biases_behind_the_sites_of_query_and_value() -> None:
    backbone = random_backbone(VARIANTS["deberta with absolute positions and types"])
    seen, attention = recorded(backbone, "w1 w2 w3 w4"), backbone.model.encoder.layer[0].attention.self  # type: ignore[union-attr, index]
    q, k, v = (seen[0, site][0] for site in (S.ATTN_Q, S.ATTN_K, S.ATTN_V))
    q, k, v = (heads_of(x, 4) for x in (q + attention.q_bias, k, v + attention.v_bias))
    context = ((q @ k.transpose(-1, -2) * 8**-0.5).softmax(-1) @ v)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(seen[0, S.ATTN_CONTEXT][0], context, rtol=1e-5, atol=1e-5)


def test_the_gate_of_modernbert_is_the_half_that_is_activated() -> None:
    seen = recorded(tiny_backbone("modernbert"), "w1 w2 w3")
    gate, up, inner = (seen[1, site][0] for site in (S.FFN_GATE, S.FFN_UP, S.FFN_INNER))
    torch.testing.assert_close(inner, gelu(gate) * up, rtol=1e-5, atol=1e-6)


def test_the_first_layer_of_modernbert_has_no_attention_norm() -> None:
    layers = [tap.layer for tap in tiny_backbone("modernbert").taps if tap.site is S.ATTN_NORM]
    assert layers == [1]


@pytest.mark.parametrize("family", CONFIGS)
def test_a_tap_is_passed_once_with_one_row_per_token(family: str) -> None:
    """Nothing else goes through it: relative positions (DeBERTa v2) or another layer (ALBERT)."""
    seen = recorded(tiny_backbone(family), "w1 w2 w3 w4 w5 w6 w7")
    (tokens,) = {y.shape[0] for values in seen.values() for y in values}
    assert tokens == len(tiny_backbone(family).text.encode(["w1 w2 w3 w4 w5 w6 w7"])[0])
    assert all(len(values) == 1 for values in seen.values())


def test_a_copy_of_deberta_v2_looks_at_its_own_projections() -> None:
    backbone = tiny_backbone("deberta-v2")
    copied: Any = deepcopy(backbone.model)
    for parameter in backbone.model.parameters():
        parameter.data.zero_()
    ids = torch.tensor([[1, 5, 6, 7, 2]])
    with torch.no_grad():
        want = tiny_model("deberta-v2")(input_ids=ids).last_hidden_state
        assert torch.equal(copied(input_ids=ids).last_hidden_state, want)


def test_the_layers_of_albert_share_their_weights_but_not_their_adapters() -> None:
    backbone = tiny_backbone("albert")
    first, second = (tap for tap in backbone.taps if tap.site is S.FFN_OUT)
    modules: list[Any] = [backbone.model.get_submodule(tap.path) for tap in (first, second)]
    assert modules[0] is not modules[1]
    assert modules[0].weight is modules[1].weight
    assert backbone.num_parameters == sum(p.numel() for p in backbone.model.parameters())


def same_taps_methods() -> list[str]:
    """Methods with parameters at taps, but IA3: it scales the values of DeBERTa v1 before their bias."""
    return [name for name in METHODS if name not in ("linear_probe", "ia3") and not checks.exclusive(name)]


def moved(method: str) -> Adapter:
    """An adapter of minilm, moved a little from its start."""
    adapter = Adapter.create(minilm(), METHODS[method].from_config(tiny_options(method)), SPEC, seed=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return adapter


@pytest.mark.parametrize("model_type", MINILM_CLASSES)
def test_an_adapter_means_the_same_in_every_class(model_type: str) -> None:
    """Made in one class, read in another with the same weights: every tap is the same place there."""
    texts = ["A man plays the guitar.", "", "word " * 60]  # single: two of the classes know no token types
    backbone, _ = minilm_as(model_type)
    plain = pooled(minilm(), None, texts)
    for method in same_taps_methods():
        made = moved(method)
        want = pooled(minilm(), made, texts)
        assert (want - plain).abs().max() > 1e-2, method
        read = Adapter.from_tensors(backbone, made.method, made.spec, made.to_tensors())
        torch.testing.assert_close(pooled(backbone, read, texts), want, rtol=1e-3, atol=1e-3)


def pooled(backbone: Backbone, adapter: Adapter | None, texts: Sequence[str]) -> Tensor:
    """Pooled states [B, H] with or without an adapter."""
    encoded = backbone.text.encode(list(texts))
    with torch.no_grad():
        if adapter is None:
            return pooled_states(backbone, backbone.pack(encoded), "mean")
        with adapter.attached(backbone):
            return pooled_states(backbone, backbone.pack(encoded, adapter.virtual_tokens), "mean")
