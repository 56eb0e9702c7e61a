"""apart: the two texts of a pair are encoded apart, and a head [L, 4H] reads both states together.

It reads [u, v, |u - v|, u * v] (Conneau et al. 2017, arXiv 1705.02364, section 3.1), which a frozen backbone
that was trained on single texts can give, and a linear head on one state of the pair cannot compute.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..decoding import Strings
from ..kinds import KINDS, HeadSpec
from ..packed import PackedBatch
from .base import READOUTS, Cost, Logits, Pass, Reads
from .pooled import Pooled

APART = "apart"
"""The pooling that files name; `own_pooling` says that of each text."""


def own_pooling(backbone: Backbone) -> str:
    """How each text's state is pooled: files rest on it."""
    return "eos" if backbone.is_encoder_decoder else "unit"


class Apart(Pooled):
    """Any kind with a head, over pairs: K pairs of a row are 2K sequences, u and v in turn."""

    name = "apart"
    apart = True
    pairs = True

    def reads(self, spec: HeadSpec) -> bool:
        return spec.pooling == APART and spec.kind in KINDS and KINDS[spec.kind].readout == Pooled.name

    def poolings(self, backbone: Backbone) -> tuple[str, ...]:
        return (APART,)

    def cost(self, spec: HeadSpec, strings: Strings, backbone: Backbone) -> Cost:
        return super().cost(replace(spec, pooling=own_pooling(backbone)), strings, backbone)

    def width(self, hidden_size: int) -> int:
        return 4 * hidden_size

    def features(self, states: Tensor) -> Tensor:
        """Of pairs, u and v in turn: [2N, H] -> [N, 4H]."""
        u, v = states[0::2], states[1::2]
        return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)

    def states(self, backbone: Backbone, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
        return super().states(backbone, hidden, batch, own_pooling(backbone))

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        """Pairs that several heads read are put together once."""
        states = self.states(run.backbone, run.hidden, run.batch, reads.pooling)
        pairs = list(dict.fromkeys(map(tuple, reads.rows)))
        number = {pair: place for place, pair in enumerate(pairs)}
        sequences = torch.tensor(pairs, device=states.device).flatten()
        features = self.features(states.index_select(0, sequences))  # [pairs, 4H]
        return run.heads.read(features, [number[tuple(row)] for row in reads.rows], reads.slots)


READOUTS.add(Apart())
