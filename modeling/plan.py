"""A backbone's weights laid out for the fast path: prepacked products, norms and tables, layer by layer.

Built once, from what the family says of its taps and from the modules that lie there. What it holds beside
the library's model are the packed weights of the products. It knows no batch and no adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from .backbone import Backbone
from .kernels import Attention, Scales
from .sites import Site, Tap
from .tapped import frozen_module

_ROWS_HINT = 1024  # tokens that products are packed for; from 9 to 1,734 it made no difference above 5 %
# Names in configs -> names here (those of `kernels.ACTIVATIONS`), and those of oneDNN with its algorithm.
_NAMES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "silu": "swish"}
_FUSED = {
    "": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "swish": ("swish", ""),
}
# Where models whose embeddings are narrower than their layers have the step between (ELECTRA, ALBERT).
_PROJECTIONS = ("embeddings_project", "encoder.embedding_hidden_mapping_in")
QKV = (Site.ATTN_Q, Site.ATTN_K, Site.ATTN_V)
Taps = Mapping[Site, Tap]


class Product:
    """x [T, I] -> activation(x W^T + bias) [T, O], of linear layers that read the same x side by side."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        weights: list[Tensor] = [layer.weight for layer in layers]
        biases: list[Tensor] = [
            layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
            for layer in layers
        ]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), _ROWS_HINT)
        self._bias = torch.cat(biases)

    def __call__(self, x: Tensor, activation: str = "") -> Tensor:
        name, algorithm = _FUSED[activation]
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, name, [], algorithm)
        return y


@dataclass(frozen=True, slots=True)
class FrozenNorm:
    """A LayerNorm of the backbone: its module, and its gain and bias as kernels take them, in float32.

    `kept` are the tensors whose addresses `own` holds.
    """

    module: nn.Module
    own: Scales
    eps: float
    kept: tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """One post-norm layer: attention, add and norm, feed-forward, add and norm."""

    taps: Taps
    qkv: Product
    out: Product
    attention_norm: FrozenNorm
    up: Product
    down: Product
    norm: FrozenNorm


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Sums of rows of tables, a norm, and in some models a projection to the width of the layers."""

    tap: Tap
    words: Tensor
    positions: Tensor
    types: Tensor | None
    norm: FrozenNorm
    projection: nn.Linear | None

    def project(self, x: Tensor) -> Tensor:
        """x [T, E] -> [T, H]."""
        return x if self.projection is None else linear(x, self.projection.weight, self.projection.bias)


@dataclass(frozen=True, slots=True)
class FrozenAttention:
    """The attention of all layers: as the kernel takes it, and as the library does where rows are long.

    `bias` [heads, 2 R + 16] is what is added to scores by the distance of key and query, R the most tokens of
    a row.
    """

    own: Attention
    bias: Tensor | None

    def runs(self, longest: int) -> bool:
        """Whether it knows every distance in a row of so many tokens."""
        return self.bias is None or longest <= int(self.own.reach)

    def of_long(self, qkv: Tensor, rows: int, length: int) -> Tensor:
        """Rows of one length, by the library's attention: qkv [rows length, 3 H] -> [rows length, H]."""
        q, k, v = qkv.view(rows, length, 3, self.own.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if self.bias is None else self._by_pair(length).to(qkv.dtype)
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=float(self.own.scaling))
        return found.transpose(1, 2).reshape(rows * length, -1)

    def _by_pair(self, length: int) -> Tensor:
        """The bias of every query and key [heads, length, length]."""
        assert self.bias is not None, "there is none: this is a bug"
        place = torch.arange(length) + int(self.own.reach) - 1
        return self.bias[:, place - torch.arange(length)[:, None]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole encoder. `activation` is that of the feed-forward."""

    embeddings: Embeddings
    layers: Sequence[Layer]
    attention: FrozenAttention
    activation: str


def plan_of(backbone: Backbone) -> Plan | None:
    """The plan of a backbone; None where its family, device, number format or activation has none."""
    config = backbone.config
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation", None)
    activation = _NAMES.get(str(activation), str(activation))
    runs = backbone.family.fast and backbone.device.type == "cpu" and has_products(backbone.dtype)
    if not runs or activation not in _FUSED:
        return None
    layers: dict[int, dict[Site, Tap]] = {}
    for tap in backbone.taps:
        layers.setdefault(-1 if tap.site is Site.EMBED else tap.layer, {})[tap.site] = tap
    embeddings = _embeddings(backbone.model, layers.pop(-1)[Site.EMBED])
    packed: dict[tuple[int, ...], Product] = {}
    built = [_layer(backbone.model, layers[number], packed) for number in sorted(layers)]
    return Plan(embeddings, built, _attention(backbone), activation)


@torch.inference_mode()
def _attention(backbone: Backbone) -> FrozenAttention:
    heads, reach = int(backbone.config.num_attention_heads), backbone.max_tokens
    width = backbone.hidden_size // heads
    if backbone.family.bias is None:
        return FrozenAttention(Attention.of(heads, width), None)
    near = backbone.family.bias(backbone.model, torch.arange(1 - reach, reach)).float()
    bias = pad(near, (0, 17)).contiguous()
    return FrozenAttention(Attention.of(heads, width, bias=bias), bias)


def has_products(dtype: torch.dtype) -> bool:
    """Whether there are products of packed weights in this format here."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        return False
    halves = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or bool(halves)


def _layer(model: nn.Module, taps: Taps, packed: dict[tuple[int, ...], Product]) -> Layer:
    """Weights that several layers share (ALBERT) are packed once: `packed` has them by their parameters."""

    def product(*sites: Site) -> Product:
        layers = [_linear(model, taps[site].path) for site in sites]
        key = tuple(id(layer.weight) for layer in layers)
        if key not in packed:
            packed[key] = Product(layers)
        return packed[key]

    def norm(site: Site) -> FrozenNorm:
        return _norm(frozen_module(model, taps[site].path))

    return Layer(
        taps=taps,
        qkv=product(*QKV),
        out=product(Site.ATTN_OUT),
        attention_norm=norm(Site.ATTN_NORM),
        up=product(Site.FFN_UP),
        down=product(Site.FFN_OUT),
        norm=norm(Site.FFN_NORM),
    )


def _embeddings(model: nn.Module, tap: Tap) -> Embeddings:
    """By the names that all families of this kind have."""
    modules = dict(model.named_modules())
    below = tap.path.rpartition(".")[0]
    types = modules.get(f"{below}.token_type_embeddings")
    projection = next((modules[path] for path in _PROJECTIONS if path in modules), None)
    assert projection is None or isinstance(projection, nn.Linear), "it is linear: this is a bug"
    return Embeddings(
        tap=tap,
        words=_table(frozen_module(model, tap.path)),
        positions=_table(modules[f"{below}.position_embeddings"]),
        types=None if types is None else _table(types),
        norm=_norm(modules[f"{below}.LayerNorm"]),
        projection=projection,
    )


def _linear(model: nn.Module, path: str) -> nn.Linear:
    module = frozen_module(model, path)
    assert isinstance(module, nn.Linear), f"{path} is no linear layer: this is a bug"
    return module


def _table(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor), "an embedding has a table: this is a bug"
    return module.weight


def _norm(module: nn.Module) -> FrozenNorm:
    assert isinstance(module, nn.LayerNorm), "these families have layer norms: this is a bug"
    kept = module.weight.float(), module.bias.float()
    return FrozenNorm(module, Scales.of(*kept), module.eps, kept)
