"""A backbone's weights as a recorded pass reads them: the library's own, but query, key and value in one.

Of the families in `RECORDED`: post-norm layers, plain attention, a sum of tables below. It knows no batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..backbone import Backbone
from ..ops.block import ACTIVATIONS
from ..segments import SegmentScales
from ..sites import Site, Tap
from ..tapped import frozen_module

RECORDED = frozenset(
    {"albert", "bert", "distilbert", "electra", "roberta", "xlm-roberta"}
)  # others have biases
QKV = (Site.ATTN_Q, Site.ATTN_K, Site.ATTN_V)
_NAMES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "silu": "swish"}
# Where models whose embeddings are narrower than their layers have the step between (ELECTRA, ALBERT).
_PROJECTIONS = ("embeddings_project", "encoder.embedding_hidden_mapping_in")
_HEAD_STEP = 8  # flash attention takes heads whose width is a multiple of it


@dataclass(frozen=True, slots=True)
class Dense:
    """x [T, I] -> x W^T + bias [T, O]."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: nn.Module) -> Dense:
        assert isinstance(module, nn.Linear), "it is linear: this is a bug"
        return cls(module.weight, module.bias)

    @classmethod
    def side_by_side(cls, modules: Sequence[nn.Module]) -> Dense:
        """Of several that read the same x."""
        parts = [cls.of(module) for module in modules]
        biases = [p.weight.new_zeros(len(p.weight)) if p.bias is None else p.bias for p in parts]
        return cls(torch.cat([p.weight for p in parts]), torch.cat(biases))

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """The backbone's own gain and bias, and what is added to the variance."""

    own: SegmentScales
    eps: float

    @classmethod
    def of(cls, module: nn.Module) -> LayerNorm:
        assert isinstance(module, nn.LayerNorm), "these families have layer norms: this is a bug"
        return cls(SegmentScales(module.weight, module.bias), module.eps)


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention, add and norm, feed-forward, add and norm."""

    taps: Mapping[Site, Tap]
    qkv: Dense
    out: Dense
    attention_norm: LayerNorm
    up: Dense
    down: Dense
    norm: LayerNorm


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Rows of tables, a norm, and in some models a projection to the width of the layers."""

    tap: Tap
    words: Tensor
    positions: Tensor
    types: Tensor | None
    norm: LayerNorm
    projection: Dense | None


@dataclass(frozen=True, slots=True)
class RecordedPlan:
    """A whole encoder; `width` is that of its states."""

    embeddings: Embeddings
    layers: Sequence[Layer]
    heads: int
    width: int
    activation: Callable[[Tensor], Tensor]


def plan_of(backbone: Backbone) -> RecordedPlan | None:
    """None where the family, the activation or the width of a head has none."""
    config, model = backbone.config, backbone.model
    name = str(getattr(config, "hidden_act", None) or getattr(config, "activation", None))
    activation = ACTIVATIONS.get(_NAMES.get(name, name))
    if backbone.family.name not in RECORDED or activation is None:
        return None
    heads, width = int(config.num_attention_heads), int(config.hidden_size)
    if width // heads % _HEAD_STEP:
        return None
    by_layer: dict[int, dict[Site, Tap]] = {}
    for tap in backbone.taps:
        by_layer.setdefault(-1 if tap.site is Site.EMBED else tap.layer, {})[tap.site] = tap
    embeddings = _embeddings(model, by_layer.pop(-1)[Site.EMBED])
    layers = [_layer(model, by_layer[number]) for number in sorted(by_layer)]
    return RecordedPlan(embeddings, layers, heads, width, activation)


def _layer(model: nn.Module, taps: Mapping[Site, Tap]) -> Layer:
    def module(site: Site) -> nn.Module:
        return frozen_module(model, taps[site].path)

    return Layer(
        taps=taps,
        qkv=Dense.side_by_side([module(site) for site in QKV]),
        out=Dense.of(module(Site.ATTN_OUT)),
        attention_norm=LayerNorm.of(module(Site.ATTN_NORM)),
        up=Dense.of(module(Site.FFN_UP)),
        down=Dense.of(module(Site.FFN_OUT)),
        norm=LayerNorm.of(module(Site.FFN_NORM)),
    )


def _embeddings(model: nn.Module, tap: Tap) -> Embeddings:
    """By the names that all families of this kind have."""
    modules = dict(model.named_modules())
    below = tap.path.rpartition(".")[0]
    types = modules.get(f"{below}.token_type_embeddings")
    projection = next((modules[path] for path in _PROJECTIONS if path in modules), None)
    return Embeddings(
        tap=tap,
        words=_table(frozen_module(model, tap.path)),
        positions=_table(modules[f"{below}.position_embeddings"]),
        types=None if types is None else _table(types),
        norm=LayerNorm.of(modules[f"{below}.LayerNorm"]),
        projection=None if projection is None else Dense.of(projection),
    )


def _table(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor), "an embedding has a table: this is a bug"
    return module.weight
