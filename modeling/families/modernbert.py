"""ModernBERT: pre-norm, rotary positions, fused projections, a gated feed-forward, windows in most layers.

The first layer has no attention norm (the embedding's norm stands before it). Of the fused feed-forward
projection the first half is activated: it is the gate, the second half is the linear way up.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Tap
from .base import FAMILIES, Family, Scores, SiteRow, layout


def _columns(part: int, width: int) -> tuple[int, ...]:
    return tuple(range(part * width, (part + 1) * width))


def _layer(config: PreTrainedConfig, layer: int) -> list[Tap]:
    h, f, path = config.hidden_size, config.intermediate_size, f"layers.{layer}"
    fused = [
        *((site, "attn.Wqkv", _columns(j, h)) for j, site in enumerate((S.ATTN_Q, S.ATTN_K, S.ATTN_V))),
        *((site, "mlp.Wi", _columns(j, f)) for j, site in enumerate((S.FFN_GATE, S.FFN_UP))),
    ]
    norm: list[SiteRow] = [(S.ATTN_NORM, "attn_norm", "out", h, h)] if layer > 0 else []
    rows: list[SiteRow] = [
        *norm,
        (S.ATTN_CONTEXT, "attn.Wo", "in", h, h),
        (S.ATTN_OUT, "attn.Wo", "out", h, h),
        (S.FFN_NORM, "mlp_norm", "out", h, h),
        (S.FFN_INNER, "mlp.Wo", "in", f, h),
        (S.FFN_OUT, "mlp.Wo", "out", f, h),
    ]
    return [
        *(Tap(s, "encoder", layer, f"{path}.{module}", "out", h, len(c), c) for s, module, c in fused),
        *layout("encoder", layer, path, rows),
    ]


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h = config.hidden_size
    return [
        Tap(S.EMBED, "encoder", 0, "embeddings.tok_embeddings", "out", config.vocab_size, h),
        *(tap for layer in range(config.num_hidden_layers) for tap in _layer(config, layer)),
        Tap(S.FINAL_NORM, "encoder", 0, "final_norm", "out", h, h),
    ]


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(model.get_submodule("layers").children())


def _scores(model: Any, layer: int, distances: Tensor, places: Tensor) -> Scores:
    kind = model.config.layer_types[layer]
    cosines, sines = model.rotary_emb(places.float(), places[None], kind)
    rotation = cosines[0].contiguous(), sines[0].contiguous()
    return Scores(rotation=rotation, window=model.layers[layer].attn.sliding_window)


_READS = (
    *(
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "head_dim",
    ),
    *("max_position_embeddings", "hidden_activation", "norm_eps", "norm_bias", "attention_bias", "mlp_bias"),
    *("layer_types", "rope_parameters", "sliding_window"),
)
FAMILIES.add(Family("modernbert", _taps, _READS, layers=_layers, fast=True, scores=_scores))
