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
from .kernels import Attention, Normal, Scales
from .ops.norm import affine_of, eps_of, is_centred
from .sites import STACK_SITES, Site, Tap
from .tapped import frozen_module

_ROWS_HINT = 1024  # tokens that products are packed for; from 9 to 1,734 it made no difference above 5 %
# Names in configs -> names here (those of `kernels.ACTIVATIONS`), and those of oneDNN with its algorithm.
ACTIVATION_NAMES = {"gelu_pytorch_tanh": "gelu_new", "gelu_fast": "gelu_new", "silu": "swish"}
_FUSED = {
    "": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "swish": ("swish", ""),
}
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation", "activation_function", "dense_act_fn")
_REACH = 1024  # tokens of a row up to which tables of distances and places are made
# Beside the table of words.
_POSITIONS, _TYPES = ("position_embeddings", "embed_positions"), ("token_type_embeddings",)
_NORMS = ("LayerNorm", "layernorm_embedding", "norm")
# Where models whose embeddings are narrower than their layers have the step between (ELECTRA, ALBERT).
_PROJECTIONS = ("embeddings_project", "encoder.embedding_hidden_mapping_in")
QKV = (Site.ATTN_Q, Site.ATTN_K, Site.ATTN_V)
Taps = Mapping[Site, Tap]


class Product:
    """x [T, I] -> activation(x W^T + bias) [T, O], of linear layers that read the same x side by side.

    Of a layer with `columns` these alone.
    """

    def __init__(self, layers: Sequence[tuple[nn.Linear, tuple[int, ...] | None]]) -> None:
        weights, biases = [], []
        for layer, columns in layers:
            bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
            chosen = slice(None) if columns is None else list(columns)
            weights.append(layer.weight[chosen])
            biases.append(bias[chosen])
        self._weight = torch.ops.mkldnn._reorder_linear_weight(torch.cat(weights), _ROWS_HINT)
        self._bias = torch.cat(biases)

    def __call__(self, x: Tensor, activation: str = "") -> Tensor:
        name, algorithm = _FUSED[activation]
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, name, [], algorithm)
        return y


@dataclass(frozen=True, slots=True)
class FrozenNorm:
    """A norm of the backbone: its module, and its gain and bias as kernels take them, in float32.

    `kept` are the tensors whose addresses `own` holds.
    """

    module: nn.Module
    own: Scales
    how: Normal
    kept: tuple[Tensor, Tensor | None]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Sums of rows of tables, a norm, and in some models a projection to the width of the layers.

    Rows of `words` are multiplied with `scale`; `positions` are read `offset` behind the batch's numbers.
    """

    tap: Tap
    words: Tensor
    scale: float
    positions: Tensor | None
    offset: int
    types: Tensor | None
    norm: FrozenNorm | None
    projection: nn.Linear | None

    def project(self, x: Tensor) -> Tensor:
        """x [T, E] -> [T, H]."""
        return x if self.projection is None else linear(x, self.projection.weight, self.projection.bias)


@dataclass(frozen=True, slots=True)
class FrozenAttention:
    """The attention of a layer: as the kernel takes it, and as the library does where rows are long.

    `bias` [heads, 2 R + 16] is what is added to scores by the distance of key and query, R the most tokens of
    a row; `rotation` the cosines and sines [S, D] by which queries and keys turn.
    """

    own: Attention
    bias: Tensor | None
    rotation: tuple[Tensor, Tensor] | None

    def of_long(self, qkv: Tensor, rows: int, length: int, mask: Tensor | None) -> Tensor:
        """Rows of one length, by the library's attention: qkv [rows length, 3 H] -> [rows length, H]."""
        q, k, v = qkv.view(rows, length, 3, self.own.heads, -1).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=float(self.own.scaling))
        return found.transpose(1, 2).reshape(rows * length, -1)

    def mask(self, length: int, dtype: torch.dtype) -> Tensor:
        """The bias of every query and key [heads, length, length]."""
        assert self.bias is not None, "there is none: this is a bug"
        place = torch.arange(length) + int(self.own.reach) - 1
        return self.bias[:, place - torch.arange(length)[:, None]].to(dtype)


@dataclass(frozen=True, slots=True)
class Layer:
    """Attention and feed-forward, whose inner states may be multiplied with a gate's.

    A norm stands behind each (of their sum with what they read) or, in a plan with a `final` norm, before.
    """

    taps: Taps
    qkv: Product
    attention: FrozenAttention
    out: Product
    attention_norm: FrozenNorm | None
    gate: Product | None
    up: Product
    down: Product
    norm: FrozenNorm


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole encoder, for rows of at most `reach` tokens (None: any).

    `activation` is that of the feed-forward; with a `final` norm norms stand before the parts of a layer.
    """

    embeddings: Embeddings
    layers: Sequence[Layer]
    reach: int | None
    activation: str
    final: tuple[Tap, FrozenNorm] | None


def plan_of(backbone: Backbone) -> Plan | None:
    """The plan of a backbone; None where its family, device, number format or activation has none."""
    config = backbone.config
    names = (getattr(config, name, None) for name in _ACTIVATIONS)
    activation = str(next((name for name in names if name), None))
    activation = ACTIVATION_NAMES.get(activation, activation)
    runs = backbone.family.fast and backbone.device.type == "cpu" and has_products(backbone.dtype)
    if not runs or activation not in _FUSED:
        return None
    taps = [tap for tap in backbone.taps if tap.stack == "encoder"]
    layers: dict[int, dict[Site, Tap]] = {}
    for tap in taps:
        if tap.site not in STACK_SITES:
            layers.setdefault(tap.layer, {})[tap.site] = tap
    whole = {tap.site: tap for tap in taps if tap.site in STACK_SITES}
    final = whole.get(Site.FINAL_NORM)
    reach = min(backbone.max_tokens, _REACH)
    parts = _Parts(backbone, reach)
    built = [parts.layer(number, layers[number]) for number in sorted(layers)]
    any_length = all(layer.attention.bias is None and layer.attention.rotation is None for layer in built)
    return Plan(
        _embeddings(backbone.model, whole[Site.EMBED]),
        built,
        None if any_length else reach,
        activation,
        None if final is None else (final, _norm(frozen_module(backbone.model, final.path))),
    )


def has_products(dtype: torch.dtype) -> bool:
    """Whether there are products of packed weights in this format here."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        return False
    halves = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or bool(halves)


class _Parts:
    """Layers in the making; what several have the same (weights in ALBERT, tables) is there once."""

    def __init__(self, backbone: Backbone, reach: int) -> None:
        self._backbone, self._model, self._reach = backbone, backbone.model, reach
        self._packed: dict[object, Product] = {}
        self._tables: list[Tensor] = []

    def layer(self, number: int, taps: Taps) -> Layer:
        return Layer(
            taps=taps,
            qkv=self._product(*(taps[site] for site in QKV)),
            attention=self._attention(number, taps[Site.ATTN_CONTEXT].width),
            out=self._product(taps[Site.ATTN_OUT]),
            attention_norm=self._norm(taps[Site.ATTN_NORM]) if Site.ATTN_NORM in taps else None,
            gate=self._product(taps[Site.FFN_GATE]) if Site.FFN_GATE in taps else None,
            up=self._product(taps[Site.FFN_UP]),
            down=self._product(taps[Site.FFN_OUT]),
            norm=self._norm(taps[Site.FFN_NORM]),
        )

    def _product(self, *taps: Tap) -> Product:
        layers = [(linear_at(self._model, tap), tap.columns) for tap in taps]
        key = tuple((id(layer.weight), columns) for layer, columns in layers)
        if key not in self._packed:
            self._packed[key] = Product(layers)
        return self._packed[key]

    def _norm(self, tap: Tap) -> FrozenNorm:
        return _norm(frozen_module(self._model, tap.path))

    @torch.inference_mode()
    def _attention(self, number: int, width: int) -> FrozenAttention:
        """All heads together are `width` wide."""
        heads, reach = int(self._backbone.config.num_attention_heads), self._reach
        distances, places = torch.arange(1 - reach, reach), torch.arange(reach)
        scores = self._backbone.family.scores(self._model, number, distances, places)
        bias = None if scores.bias is None else scores.bias.float()
        if scores.window is not None and scores.window < reach:
            bias = distances.new_zeros(heads, len(distances), dtype=torch.float32) if bias is None else bias
            bias = bias.masked_fill(distances.abs() >= scores.window, -torch.inf)
        bias = None if bias is None else self._once(pad(bias, (0, 17)).contiguous())
        rotation = scores.rotation
        if rotation is not None:
            rotation = self._once(rotation[0].float()), self._once(rotation[1].float())
        own = Attention.of(heads, width // heads, scores.scaling, bias)
        return FrozenAttention(own, bias, rotation)

    def _once(self, table: Tensor) -> Tensor:
        """The first table that is equal to this one."""
        for known in self._tables:
            if torch.equal(known, table):
                return known
        self._tables.append(table)
        return table


def _embeddings(model: nn.Module, tap: Tap) -> Embeddings:
    """By the names that all families of this kind have."""
    modules = dict(model.named_modules())
    below, words = tap.path.rpartition(".")[0], frozen_module(model, tap.path)
    positions, types, norm = (
        next((modules[path] for name in names if (path := f"{below}.{name}") in modules), None)
        for names in (_POSITIONS, _TYPES, _NORMS)
    )
    projection = next((modules[path] for path in _PROJECTIONS if path in modules), None)
    assert projection is None or isinstance(projection, nn.Linear), "it is linear: this is a bug"
    return Embeddings(
        tap=tap,
        words=_table(words),
        scale=float(getattr(words, "embed_scale", 1.0)),
        positions=None if positions is None else _table(positions),
        offset=int(getattr(positions, "offset", 0)),
        types=None if types is None else _table(types),
        norm=None if norm is None else _norm(norm),
        projection=projection,
    )


def linear_at(model: nn.Module, tap: Tap) -> nn.Linear:
    """The backbone's own module at a tap."""
    module = frozen_module(model, tap.path)
    assert isinstance(module, nn.Linear), f"{tap.path} is no linear layer: this is a bug"
    return module


def _table(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor), "an embedding has a table: this is a bug"
    return module.weight


def _norm(module: nn.Module) -> FrozenNorm:
    gain, bias = affine_of(module)
    kept = gain.float(), None if bias is None else bias.float()
    return FrozenNorm(module, Scales.of(*kept), Normal(eps_of(module), is_centred(module)), kept)
