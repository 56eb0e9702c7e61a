"""MPNet: BERT's function with a bias of relative positions on every attention score.

Its attention is the library's own and takes that bias on a padded grid, so it cannot run packed. Positions
start behind the padding id 1, whatever the config says of padding: the library has that number in its code.
"""

from __future__ import annotations

from transformers import PreTrainedConfig

from ..sites import Site as S
from ..sites import Tap
from .base import FAMILIES, Family, SiteRow, layout

_FIRST_POSITION = 2


def _taps(config: PreTrainedConfig) -> list[Tap]:
    h, f = config.hidden_size, config.intermediate_size
    rows: list[SiteRow] = [
        (S.ATTN_Q, "attention.attn.q", "out", h, h),
        (S.ATTN_K, "attention.attn.k", "out", h, h),
        (S.ATTN_V, "attention.attn.v", "out", h, h),
        (S.ATTN_CONTEXT, "attention.attn.o", "in", h, h),
        (S.ATTN_OUT, "attention.attn.o", "out", h, h),
        (S.ATTN_NORM, "attention.LayerNorm", "out", h, h),
        (S.FFN_UP, "intermediate.dense", "out", h, f),
        (S.FFN_INNER, "output.dense", "in", f, h),
        (S.FFN_OUT, "output.dense", "out", f, h),
        (S.FFN_NORM, "output.LayerNorm", "out", h, h),
    ]
    embed = Tap(S.EMBED, "encoder", 0, "embeddings.word_embeddings", "out", config.vocab_size, h)
    layers = range(config.num_hidden_layers)
    return [embed, *(tap for i in layers for tap in layout("encoder", i, f"encoder.layer.{i}", rows))]


FAMILIES.add(
    Family(
        name="mpnet",
        taps=_taps,
        first_position=lambda config: _FIRST_POSITION,
        max_tokens=lambda config: int(config.max_position_embeddings) - _FIRST_POSITION,
        poolings=("mean", "first", "pooler"),
        padded=True,
    )
)
