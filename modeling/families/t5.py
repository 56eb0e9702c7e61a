"""T5 (v1.0, v1.1 with gated feed-forward): encoder-decoder, pre-norm, relative positions, no biases.

The position bias depends on the distance of two tokens alone and is the same beyond the largest one, so the
prepared model computes it per distance, once, instead of for every pair of tokens of a packed batch. Its ReLU
keeps signs instead of numbers while the layer behind it is frozen.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..layers.relu import SignRelu
from ..sites import Site as S
from ..sites import Stack, Tap
from .base import FAMILIES, Family, Scores, Seq2Seq, SiteRow, attention, feed_forward, layout

_MAX_TOKENS = 512  # relative positions have no limit; this is the length of its pre-training
_FLOAT16 = (
    "T5's activations overflow float16 (the feed-forward's reach beyond 65,504); use bfloat16 or float32"
)


def _attention(config: PreTrainedConfig, sublayer: str, name: str) -> list[SiteRow]:
    paths = (f"{sublayer}.{name}.{one}" for one in "qkvo")
    return attention(config.d_model, config.num_heads * config.d_kv, f"{sublayer}.layer_norm", *paths)


def _feed_forward(config: PreTrainedConfig, sublayer: str) -> list[SiteRow]:
    h, f, path = config.d_model, config.d_ff, f"{sublayer}.DenseReluDense"
    up = f"{path}.wi_1" if config.is_gated_act else f"{path}.wi"
    rows = feed_forward(h, f, f"{sublayer}.layer_norm", up, f"{path}.wo")
    if config.is_gated_act:
        rows.insert(1, (S.FFN_GATE, f"{path}.wi_0", "out", h, f))
    return rows


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, vocab = config.d_model, config.vocab_size
    taps = [Tap(S.EMBED, "encoder", 0, "encoder.embed_tokens", "out", vocab, h)]
    for i in range(config.num_layers):
        rows = [*_attention(config, "0", "SelfAttention"), *_feed_forward(config, "1")]
        taps += layout("encoder", i, f"encoder.block.{i}.layer", rows)
    taps.append(Tap(S.FINAL_NORM, "encoder", 0, "encoder.final_layer_norm", "out", h, h))
    for i in range(config.num_decoder_layers):
        block = f"decoder.block.{i}.layer"
        taps += layout("decoder", i, block, _attention(config, "0", "SelfAttention"))
        taps += layout("cross", i, block, _attention(config, "1", "EncDecAttention"))
        taps += layout("decoder", i, block, _feed_forward(config, "2"))
    taps.append(Tap(S.FINAL_NORM, "decoder", 0, "decoder.final_layer_norm", "out", h, h))
    return [*taps, Tap(S.LM_HEAD, "decoder", 0, "lm_head", "out", h, vocab)]


def _prepare(model: Any) -> None:
    """Let each stack compute its position bias per distance, and cross-attention none; lean ReLUs."""
    for stack in (model.encoder, model.decoder):
        for block in stack.block:
            forward = block.layer[-1].DenseReluDense
            if isinstance(forward.act, nn.ReLU):
                forward.act = SignRelu(forward.wo)
            own = block.layer[0].SelfAttention
            if own.has_relative_attention_bias:
                own.compute_bias = partial(_bias_by_distance, own, _buckets(own))
            if len(block.layer) == 3:
                cross = block.layer[1].EncDecAttention
                cross.has_relative_attention_bias = True  # so that it asks instead of making a zero per pair
                cross.compute_bias = _no_bias


def _buckets(attention: Any) -> Tensor:
    """[2 R + 1]: the bucket for key minus query from -R to R, the largest distance."""
    most = attention.relative_attention_max_distance
    found: Tensor = attention._relative_position_bucket(
        torch.arange(-most, most + 1, device=attention.relative_attention_bias.weight.device),
        bidirectional=not attention.is_decoder,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=most,
    )
    return found


def _bias_by_distance(attention: Any, buckets: Tensor, *_: Any, **__: Any) -> Tensor:
    """[1, heads, 1, 2 R + 1]: the bias of each distance."""
    values: Tensor = attention.relative_attention_bias(buckets)  # [2 R + 1, heads]
    return values.T[None, :, None]


def _distances(model: Any, stack: Stack) -> Tensor:
    bias: Tensor = getattr(model, stack).block[0].layer[0].SelfAttention.compute_bias()
    return bias.detach().clone(memory_format=torch.contiguous_format)


def _no_bias(*_: Any, **__: Any) -> None:
    return None


def _scaled(model: Any, states: Tensor) -> Tensor:
    """Tied output layers read scaled states."""
    return states * model.config.d_model**-0.5 if model.config.scale_decoder_outputs else states


def as_published(model: Any) -> None:
    """Give a v1.1 model that was made from a config alone an output layer of its own.

    Published checkpoints have one, and keep it when they are loaded; without a checkpoint the library ties
    it to the embedding, whatever the config says.
    """
    if not model.config.scale_decoder_outputs and model.lm_head.weight is model.shared.weight:
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight).normal_())


def _scores(model: Any, layer: int, distances: Tensor, places: Tensor) -> Scores:
    """Of the encoder: the table of its first layer, which all share."""
    own = model.encoder.block[0].layer[0].SelfAttention
    buckets = own._relative_position_bucket(
        distances,
        bidirectional=True,
        num_buckets=own.relative_attention_num_buckets,
        max_distance=own.relative_attention_max_distance,
    )
    return Scores(scaling=1.0, bias=own.relative_attention_bias(buckets).T)


_READS = (
    *("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads"),
    *("relative_attention_num_buckets", "relative_attention_max_distance", "layer_norm_epsilon"),
    *("dense_act_fn", "is_gated_act", "scale_decoder_outputs"),
)
FAMILIES.add(
    Family(
        "t5",
        _taps,
        _READS,
        poolings=("eos",),
        max_tokens=lambda config: _MAX_TOKENS,
        positions=False,
        prepare=_prepare,
        seq2seq=Seq2Seq("encoder", "decoder", "lm_head", scaled=_scaled, distances=_distances),
        refused_dtypes=(("float16", _FLOAT16),),
        fast=True,
        scores=_scores,
    )
)
