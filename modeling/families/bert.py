"""BERT and every model of its class, MiniLM among them: post-norm, positions from 0, a tanh pooler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedConfig

from ..sites import Site, Tap
from .base import FAMILIES, Family, attention, feed_forward, layout

# What the forward pass of every model of BERT's kind reads in its config.
POST_NORM_READS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "hidden_act", "layer_norm_eps"),
)
BERT_READS = (*POST_NORM_READS, "type_vocab_size")


@dataclass(frozen=True, slots=True)
class PostNorm:
    """An encoder laid out like BERT's: `stack` holds its layers, the other paths are below one of them.

    The names are BERT's unless told otherwise; `inner` is the config's for the feed-forward's width.
    """

    stack: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"
    inner: str = "intermediate_size"

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """As `Family.layers`, for a model that is a plain stack of them."""
        return list(model.get_submodule(self.stack).children())

    def taps(self, config: PreTrainedConfig) -> list[Tap]:
        return self.taps_in(config, (f"{self.stack}.{i}" for i in range(config.num_hidden_layers)))

    def taps_in(self, config: PreTrainedConfig, layers: Iterable[str]) -> list[Tap]:
        """`taps`, with the layers at these paths."""
        h = config.hidden_size
        width = getattr(config, "embedding_size", h)  # ELECTRA's and ALBERT's may be smaller than H
        rows = [
            *attention(h, h, self.attention_norm, self.query, self.key, self.value, self.out),
            *feed_forward(h, getattr(config, self.inner), self.norm, self.up, self.down),
        ]
        embed = Tap(Site.EMBED, "encoder", 0, "embeddings.word_embeddings", "out", config.vocab_size, width)
        return [embed, *(tap for i, path in enumerate(layers) for tap in layout("encoder", i, path, rows))]


_POOLINGS = ("unit", "mean", "first", "pooler")
FAMILIES.add(
    Family("bert", PostNorm().taps, BERT_READS, poolings=_POOLINGS, layers=PostNorm().layers, fast=True)
)
