"""The weights of an encoder-decoder laid out for its fast path: products packed before, layer by layer.

Of stacks as T5's: a root-mean-square norm before every sublayer, linear layers without biases, and a bias of
attention for each distance of key and query. Built once; it knows no batch and no adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .kernels import ACTIVATIONS, TextKernels, TextProduct
from .plan import ACTIVATION_NAMES, QKV, Taps, linear_at
from .sites import Site, Stack, Tap
from .tapped import frozen_module


@dataclass(frozen=True, slots=True)
class RootNorm:
    """x / sqrt(mean(x^2) + eps) * weight, and what may act on it."""

    tap: Tap
    module: nn.Module
    weight: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Attending:
    """An attention sublayer. `reads`: q|k|v of the tokens; of cross-attention q, and k|v of the texts."""

    taps: Taps
    module: nn.Module
    norm: RootNorm
    reads: Sequence[TextProduct]
    out: TextProduct


@dataclass(frozen=True, slots=True)
class Forward:
    """A feed-forward sublayer: down(activation(up)), or with a gate down(activation(gate) * up)."""

    taps: Taps
    norm: RootNorm
    gate: TextProduct | None
    up: TextProduct
    down: TextProduct


@dataclass(frozen=True, slots=True)
class TextLayer:
    """A layer; the decoder's have cross-attention."""

    own: Attending
    cross: Attending | None
    forward: Forward


@dataclass(frozen=True, slots=True)
class TextStack:
    """An encoder or a decoder; `bias` [1, heads, 1, 2 R + 1] by distance from -R to R. Only an encoder's
    embedding has a tap.
    """

    words: Tensor
    embed: Tap | None
    bias: Tensor
    layers: Sequence[TextLayer]
    norm: RootNorm


@dataclass(frozen=True, slots=True)
class TextPlan:
    """Both stacks. `heads` of attention, `activation` of the feed-forward; `is_even`: kernels attend with
    heads of this width.
    """

    encoder: TextStack
    decoder: TextStack
    heads: int
    activation: str
    is_even: bool


def text_plan_of(backbone: Backbone, c: TextKernels) -> TextPlan | None:
    """None where the family, device, number format or activation has none."""
    config, seq2seq = backbone.config, backbone.family.seq2seq
    if seq2seq is None or seq2seq.distances is None:
        return None
    activation = ACTIVATION_NAMES.get(config.dense_act_fn, config.dense_act_fn)
    if backbone.device.type != "cpu" or backbone.dtype != torch.float32 or activation not in ACTIVATIONS:
        return None
    encoder, decoder = (_stack(backbone, stack, c) for stack in ("encoder", "decoder"))
    return TextPlan(encoder, decoder, int(config.num_heads), activation, c.attends(int(config.d_kv)))


def _stack(backbone: Backbone, stack: Stack, c: TextKernels) -> TextStack:
    model, seq2seq = backbone.model, backbone.seq2seq
    assert seq2seq.distances is not None, "only where there are distances: this is a bug"
    found: dict[tuple[Stack, int], dict[Site, Tap]] = {}
    for tap in backbone.taps:
        found.setdefault((tap.stack, tap.layer), {})[tap.site] = tap
    first = found[stack, 0]
    root = seq2seq.encoder if stack == "encoder" else seq2seq.decoder
    words = frozen_module(model, f"{root}.embed_tokens").weight
    assert isinstance(words, Tensor), "an embedding has a table: this is a bug"
    numbers = sorted(n for one, n in found if one == stack)
    layers = [
        _layer(model, c, found[stack, n], found.get(("cross", n)) if stack == "decoder" else None)
        for n in numbers
    ]
    bias = seq2seq.distances(model, stack)
    return TextStack(words, first.get(Site.EMBED), bias, layers, _norm(model, first[Site.FINAL_NORM]))


def _layer(model: nn.Module, c: TextKernels, taps: Taps, cross: Taps | None) -> TextLayer:
    gate = TextProduct(c, [linear_at(model, taps[Site.FFN_GATE])]) if Site.FFN_GATE in taps else None
    up, down = (TextProduct(c, [linear_at(model, taps[site])]) for site in (Site.FFN_UP, Site.FFN_OUT))
    return TextLayer(
        own=_attending(model, c, taps, [QKV]),
        cross=None if cross is None else _attending(model, c, cross, [QKV[:1], QKV[1:]]),
        forward=Forward(taps, _norm(model, taps[Site.FFN_NORM]), gate, up, down),
    )


def _attending(model: nn.Module, c: TextKernels, taps: Taps, reads: Sequence[Sequence[Site]]) -> Attending:
    return Attending(
        taps=taps,
        module=model.get_submodule(taps[Site.ATTN_Q].path.rpartition(".")[0]),
        norm=_norm(model, taps[Site.ATTN_NORM]),
        reads=[TextProduct(c, [linear_at(model, taps[site]) for site in sites]) for sites in reads],
        out=TextProduct(c, [linear_at(model, taps[Site.ATTN_OUT])]),
    )


def _norm(model: nn.Module, tap: Tap) -> RootNorm:
    module = frozen_module(model, tap.path)
    weight, eps = module.weight, module.variance_epsilon
    assert isinstance(weight, Tensor), "a norm has a gain: this is a bug"
    assert isinstance(eps, float), "a norm has an epsilon: this is a bug"
    return RootNorm(tap, module, weight, eps)
