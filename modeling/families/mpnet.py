"""MPNet: BERT's function with a bias of relative positions on every attention score.

Its attention is the library's own and takes that bias on a padded grid, so the reference cannot run packed;
the fast path can. Positions start behind the padding id 1, whatever the config says of padding: the library
has that number in its code.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import FAMILIES, Family, Scores
from .bert import POST_NORM_READS, PostNorm

_FIRST_POSITION = 2
_NAMES = PostNorm(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
)


def _scores(model: Any, layer: int, distances: Tensor, places: Tensor) -> Scores:
    """One table for all layers, by the library's own buckets."""
    encoder = model.encoder
    return Scores(bias=encoder.relative_attention_bias(encoder.relative_position_bucket(distances)).T)


FAMILIES.add(
    Family(
        "mpnet",
        _NAMES.taps,
        (*POST_NORM_READS, "relative_attention_num_buckets"),
        poolings=("unit", "mean", "first", "pooler"),
        first_position=lambda config: _FIRST_POSITION,
        max_tokens=lambda config: int(config.max_position_embeddings) - _FIRST_POSITION,
        padded=True,
        fast=True,
        scores=_scores,
    )
)
