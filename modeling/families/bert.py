"""BERT and every model of its class, MiniLM among them: post-norm, positions from 0, a tanh pooler."""

from __future__ import annotations

from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Tap
from .base import FAMILIES, Family, SiteRow, layout


def encoder_taps(config: PreTrainedConfig) -> list[Tap]:
    """Taps of an encoder laid out like BERT's (RoBERTa and ELECTRA use the same module names)."""
    h, f = config.hidden_size, config.intermediate_size
    rows: list[SiteRow] = [
        (S.ATTN_Q, "attention.self.query", "out", h, h),
        (S.ATTN_K, "attention.self.key", "out", h, h),
        (S.ATTN_V, "attention.self.value", "out", h, h),
        (S.ATTN_CONTEXT, "attention.output.dense", "in", h, h),
        (S.ATTN_OUT, "attention.output.dense", "out", h, h),
        (S.ATTN_NORM, "attention.output.LayerNorm", "out", h, h),
        (S.FFN_UP, "intermediate.dense", "out", h, f),
        (S.FFN_INNER, "output.dense", "in", f, h),
        (S.FFN_OUT, "output.dense", "out", f, h),
        (S.FFN_NORM, "output.LayerNorm", "out", h, h),
    ]
    layers = range(config.num_hidden_layers)
    width = getattr(config, "embedding_size", h)  # ELECTRA's may be smaller than H
    embed = Tap(S.EMBED, "encoder", 0, "embeddings.word_embeddings", "out", config.vocab_size, width)
    return [embed, *(tap for i in layers for tap in layout("encoder", i, f"encoder.layer.{i}", rows))]


FAMILIES.add(
    Family(
        name="bert",
        taps=encoder_taps,
        first_position=lambda config: 0,
        max_tokens=lambda config: int(config.max_position_embeddings),
        poolings=("mean", "first", "pooler"),
    )
)
