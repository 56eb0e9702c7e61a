"""pooled: a linear head [L, F] on what is read of each text, its state [H]; different heads share a batch.

A row of K texts (choices) has one logit from each: logits [B K, 1] of its texts are [B, K] of the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from failures import Failure

from .. import decoding
from ..backbone import Backbone
from ..decoding import Strings
from ..errors import BackboneError
from ..kinds import KINDS, HeadSpec
from ..packed import PackedBatch
from .base import READOUTS, Cost, Logits, Pass, Readout, Reads, Wanted


class Pooled(Readout):
    """What files call by the kind's own name."""

    name = "pooled"
    has_head = True

    def poolings(self, backbone: Backbone) -> tuple[str, ...]:
        """The poolings that this backbone has."""
        return backbone.poolings

    def check_backbone(self, spec: HeadSpec, backbone: Backbone) -> list[Failure]:
        if spec.pooling in self.poolings(backbone):
            return []
        known = ", ".join(self.poolings(backbone))
        return [Failure("head.pooling", repr(spec.pooling), known, "train for this backbone.")]

    def cost(self, spec: HeadSpec, strings: Strings, backbone: Backbone) -> Cost:
        """A decoder's last state costs its pass over the text."""
        return Cost(per_token=int(spec.pooling == "eos"))

    def states(self, backbone: Backbone, hidden: Tensor, batch: PackedBatch, pooling: str) -> Tensor:
        """In float32: `mean` of the text's own tokens, `unit`: that at length one, `first` token, `pooler`;
        `eos`: the decoder's state where the text ends when it reads it again, shifted (as the library's BART
        and T5 classifiers do).

        Raises BackboneError for a pooling that this backbone does not have.
        """
        if pooling not in backbone.poolings:
            raise BackboneError(f"pooling {pooling!r}: {backbone.name} has {', '.join(backbone.poolings)}")
        if pooling == "eos":
            pooled = decoding.end_states(backbone, hidden, batch)
        elif pooling in ("mean", "unit"):
            states, lengths = batch.text_only(hidden)
            pooled = torch.segment_reduce(states.float(), "mean", lengths=lengths)
            if pooling == "unit":
                pooled = normalize(pooled, dim=-1)
        else:
            pooled = hidden.index_select(0, batch.text_starts)
            if pooling == "pooler":
                pooled = backbone.model.pooler(pooled[:, None])  # type: ignore[operator]  # a module; -> [B, H]
        return pooled.float().index_select(0, batch.inverse)

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        states = self.states(run.backbone, run.hidden, run.batch, reads.pooling)
        return run.heads.read(states, [row for (row,) in reads.rows], reads.slots)

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        with backbone.running(batch) as hidden:
            return self._logits_of(backbone, hidden, batch, spec, head)

    def _logits_of(
        self,
        backbone: Backbone,
        hidden: Tensor,
        batch: PackedBatch,
        spec: HeadSpec,
        head: nn.Linear | None,
    ) -> Tensor:
        assert head is not None, "a pooled state is read by a head: this is a bug"
        states = self.states(backbone, hidden, batch, spec.pooling)
        return linear(self.features(states), head.weight, head.bias)

    def loss_of(
        self,
        backbone: Backbone,
        hidden: Tensor,
        batch: PackedBatch,
        spec: HeadSpec,
        head: nn.Linear | None,
        wanted: Wanted,
    ) -> Tensor:
        return self.measured_loss(spec, self._logits_of(backbone, hidden, batch, spec, head), wanted)

    def measured_loss(self, spec: HeadSpec, logits: Tensor, wanted: Wanted) -> Tensor:
        rows = logits.view(len(wanted.targets), -1)
        return KINDS[spec.kind].loss(rows, wanted.targets, wanted.weights)


READOUTS.add(Pooled())
