"""DeBERTa v1: BERT's layout with disentangled attention of its own, which cannot run packed.

One fused projection holds query, key and value, interleaved head by head. The library adds the biases of
query and value after it (`q_bias`, `v_bias`), so the sites of both lie before these biases. Positions have
projections of their own (`pos_proj`, `pos_q_proj`), which stay frozen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from ..sites import Site, Tap
from .base import FAMILIES, Family
from .bert import BERT_READS, PostNorm

_FUSED = "attention.self.in_proj"
_NAMES = PostNorm(query=_FUSED, key=_FUSED, value=_FUSED)
_PARTS = (Site.ATTN_Q, Site.ATTN_K, Site.ATTN_V)


def _interleaved(part: int, heads: int, head_width: int) -> tuple[int, ...]:
    """Columns of query (0), key (1) or value (2) in the fused projection: q, k, v of head 0, of head 1, …"""
    return tuple((3 * head + part) * head_width + i for head in range(heads) for i in range(head_width))


def _taps(config: PreTrainedConfig) -> list[Tap]:
    heads = config.num_attention_heads
    width = config.hidden_size // heads
    columns = {site: _interleaved(part, heads, width) for part, site in enumerate(_PARTS)}
    return [replace(tap, columns=columns.get(tap.site)) for tap in _NAMES.taps(config)]


def relative_positions(config: PreTrainedConfig) -> dict[str, Any]:
    """What attention of both versions reads of relative positions.

    Scores are scaled by how many kinds of them are named, also where there are no relative positions.
    """
    named, most = sorted(config.pos_att_type or ()), config.max_relative_positions
    reach = config.max_position_embeddings if most < 1 else most
    return {"pos_att_type": named} | ({"max_relative_positions": reach} if config.relative_attention else {})


def _derived(config: PreTrainedConfig) -> dict[str, Any]:
    return relative_positions(config) | {"talking_head": getattr(config, "talking_head", False)}


DEBERTA_READS = (*BERT_READS, "position_biased_input", "relative_attention")
FAMILIES.add(Family("deberta", _taps, DEBERTA_READS, _derived, padded=True))
