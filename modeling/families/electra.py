"""ELECTRA (discriminator): BERT's layout behind an optional embedding projection, and no pooler."""

from __future__ import annotations

from .base import FAMILIES, Family
from .bert import encoder_taps

FAMILIES.add(
    Family(
        name="electra",
        taps=encoder_taps,
        first_position=lambda config: 0,
        max_tokens=lambda config: int(config.max_position_embeddings),
        poolings=("mean", "first"),
    )
)
