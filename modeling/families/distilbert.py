"""DistilBERT: BERT's function under other names, without token types and pooler."""

from __future__ import annotations

from .base import FAMILIES, Family
from .bert import PostNorm

_NAMES = PostNorm(
    stack="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
    inner="hidden_dim",
)

_READS = ("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "max_position_embeddings", "activation")
FAMILIES.add(Family("distilbert", _NAMES.taps, _READS, layers=_NAMES.layers, fast=True))
