"""DistilBERT: BERT's function under other names, without token types and pooler."""

from __future__ import annotations

from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Tap
from .base import FAMILIES, Family, SiteRow, layout


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, f = config.dim, config.hidden_dim
    rows: list[SiteRow] = [
        (S.ATTN_Q, "attention.q_lin", "out", h, h),
        (S.ATTN_K, "attention.k_lin", "out", h, h),
        (S.ATTN_V, "attention.v_lin", "out", h, h),
        (S.ATTN_CONTEXT, "attention.out_lin", "in", h, h),
        (S.ATTN_OUT, "attention.out_lin", "out", h, h),
        (S.ATTN_NORM, "sa_layer_norm", "out", h, h),
        (S.FFN_UP, "ffn.lin1", "out", h, f),
        (S.FFN_INNER, "ffn.lin2", "in", f, h),
        (S.FFN_OUT, "ffn.lin2", "out", f, h),
        (S.FFN_NORM, "output_layer_norm", "out", h, h),
    ]
    embed = Tap(S.EMBED, "encoder", 0, "embeddings.word_embeddings", "out", config.vocab_size, h)
    layers = range(config.n_layers)
    return [embed, *(tap for i in layers for tap in layout("encoder", i, f"transformer.layer.{i}", rows))]


FAMILIES.add(
    Family(
        name="distilbert",
        taps=_taps,
        first_position=lambda config: 0,
        max_tokens=lambda config: int(config.max_position_embeddings),
        poolings=("mean", "first"),
    )
)
