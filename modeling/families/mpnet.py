"""MPNet: BERT's function with a bias of relative positions on every attention score.

Its attention is the library's own and takes that bias on a padded grid, so it cannot run packed. Positions
start behind the padding id 1, whatever the config says of padding: the library has that number in its code.
"""

from __future__ import annotations

from .base import FAMILIES, Family
from .bert import POST_NORM_READS, PostNorm

_FIRST_POSITION = 2
_NAMES = PostNorm(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
)

FAMILIES.add(
    Family(
        "mpnet",
        _NAMES.taps,
        (*POST_NORM_READS, "relative_attention_num_buckets"),
        poolings=("unit", "mean", "first", "pooler"),
        first_position=lambda config: _FIRST_POSITION,
        max_tokens=lambda config: int(config.max_position_embeddings) - _FIRST_POSITION,
        padded=True,
    )
)
