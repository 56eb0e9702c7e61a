"""From the states of a text's tokens to one vector; one of the ways asks the decoder. B texts, T tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from . import decoding
from .backbone import Backbone
from .errors import BackboneError
from .packed import PackedBatch


def pooled_states(backbone: Backbone, batch: PackedBatch, pooling: str) -> Tensor:
    """Run a batch with whatever is attached: [B, H] float32 in the caller's order."""
    with backbone.running(batch) as hidden:
        return pool(backbone, hidden, batch, pooling)


def pool(backbone: Backbone, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
    """States [T, H] of the batch that runs -> [B, H] float32 in the caller's order, without virtual tokens.

    `mean` of tokens, `first` token, `pooler`; `eos`: the decoder's state at the end of the sequence when
    it reads the text again, shifted (as the library's BART and T5 classifiers do).
    Raises BackboneError for a pooling that this backbone does not have.
    """
    if pooling not in backbone.poolings:
        raise BackboneError(f"pooling {pooling!r}: {backbone.name} has {', '.join(backbone.poolings)}")
    if pooling == "eos":
        pooled = decoding.end_states(backbone, hidden, batch)
    elif pooling == "mean":
        states, lengths = batch.text_only(hidden)
        pooled = torch.segment_reduce(states.float(), "mean", lengths=lengths)
    else:
        pooled = hidden.index_select(0, batch.text_starts)
        if pooling == "pooler":
            pooled = backbone.model.pooler(pooled[:, None])  # type: ignore[operator]  # [B, 1, H] -> [B, H]
    return pooled.float().index_select(0, batch.inverse)
