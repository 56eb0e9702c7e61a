"""ELECTRA (discriminator): BERT's layout behind an optional embedding projection, and no pooler."""

from __future__ import annotations

from .base import FAMILIES, Family
from .bert import BERT_READS, PostNorm

FAMILIES.add(
    Family("electra", PostNorm().taps, (*BERT_READS, "embedding_size"), layers=PostNorm().layers, fast=True)
)
