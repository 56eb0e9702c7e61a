"""DeBERTa v1: BERT's layout with disentangled attention of its own, which cannot run packed.

One fused projection holds query, key and value, interleaved head by head. The library adds the biases of
query and value after it (`q_bias`, `v_bias`), so the sites of both lie before these biases. Positions have
projections of their own (`pos_proj`, `pos_q_proj`), which stay frozen.
"""

from __future__ import annotations

from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Tap
from .base import FAMILIES, Family, SiteRow, layout


def behind_attention(config: PreTrainedConfig) -> list[SiteRow]:
    """What follows the attention of a layer, below the layer's path; the same in v1 and v2."""
    h, f = config.hidden_size, config.intermediate_size
    return [
        (S.ATTN_CONTEXT, "attention.output.dense", "in", h, h),
        (S.ATTN_OUT, "attention.output.dense", "out", h, h),
        (S.ATTN_NORM, "attention.output.LayerNorm", "out", h, h),
        (S.FFN_UP, "intermediate.dense", "out", h, f),
        (S.FFN_INNER, "output.dense", "in", f, h),
        (S.FFN_OUT, "output.dense", "out", f, h),
        (S.FFN_NORM, "output.LayerNorm", "out", h, h),
    ]


def word_embedding(config: PreTrainedConfig) -> Tap:
    """The tap on the word embedding, which may be narrower than the layers; the same in v1 and v2."""
    width = getattr(config, "embedding_size", config.hidden_size)
    return Tap(S.EMBED, "encoder", 0, "embeddings.word_embeddings", "out", config.vocab_size, width)


def interleaved(part: int, heads: int, head_width: int) -> tuple[int, ...]:
    """Columns of query (0), key (1) or value (2) in the fused projection: q, k, v of head 0, of head 1, …"""
    return tuple((3 * head + part) * head_width + i for head in range(heads) for i in range(head_width))


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, heads = config.hidden_size, config.num_attention_heads
    columns = [interleaved(part, heads, h // heads) for part in range(3)]
    taps = [word_embedding(config)]
    for i in range(config.num_hidden_layers):
        path = f"encoder.layer.{i}"
        fused = f"{path}.attention.self.in_proj"
        for site, own in zip((S.ATTN_Q, S.ATTN_K, S.ATTN_V), columns, strict=True):
            taps.append(Tap(site, "encoder", i, fused, "out", h, h, own))
        taps += layout("encoder", i, path, behind_attention(config))
    return taps


FAMILIES.add(
    Family(
        name="deberta",
        taps=_taps,
        first_position=lambda config: 0,
        max_tokens=lambda config: int(config.max_position_embeddings),
        poolings=("mean", "first"),
        padded=True,
    )
)
