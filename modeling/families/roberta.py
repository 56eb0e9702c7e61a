"""RoBERTa and XLM-R: BERT's layout; positions start after the padding id, so two places are lost."""

from __future__ import annotations

from transformers import PreTrainedConfig

from .base import FAMILIES, Family
from .bert import BERT_READS, PostNorm


def _first_position(config: PreTrainedConfig) -> int:
    return int(config.pad_token_id) + 1


FAMILIES.add(
    Family(
        "roberta",
        PostNorm().taps,
        BERT_READS,
        poolings=("unit", "mean", "first", "pooler"),
        first_position=_first_position,
        max_tokens=lambda config: int(config.max_position_embeddings) - _first_position(config),
        layers=PostNorm().layers,
        fast=True,
    ),
    "xlm-roberta",
)
