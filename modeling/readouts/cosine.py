"""cosine: embeddings under an adapter, and the cosine of two of them; nothing of it is a head's.

A text's embedding is its pooled state, scaled to length one. The texts of a pair are encoded apart, so that
embeddings that were stored compare as pairs do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from failures import Failure

from ..backbone import Backbone
from ..kinds import KINDS, HeadSpec
from ..kinds.base import refused
from ..packed import PackedBatch
from .base import READOUTS, Logits, Pass, Reads, Wanted
from .pooled import Pooled

TEMPERATURE = 0.05
"""Of the in-batch softmax: that of SimCSE (Gao et al. 2021, arXiv 2104.08821)."""


class Cosine(Pooled):
    """Pairs have one logit, their cosine; a text alone has its embedding [H] in place of logits."""

    name = "cosine"
    has_head = False
    apart = True
    embeds = True

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = self.check_kind(spec)
        if spec.pooling == "none":
            failures.append(refused("pooling", spec.pooling, "A pooling of the texts' states"))
        return failures

    def finds(self, spec: HeadSpec) -> bool:
        """Without scores."""
        return spec.low is None

    def embeddings(self, backbone: Backbone, batch: PackedBatch, pooling: str) -> Tensor:
        with backbone.running(batch) as hidden:
            return normalize(self.states(backbone, hidden, batch, pooling), dim=-1)

    def read(self, run: Pass, reads: Reads) -> list[Logits]:
        unit = normalize(self.states(run.backbone, run.hidden, run.batch, reads.pooling), dim=-1)
        first, last = (torch.tensor([row[end] for row in reads.rows], device=unit.device) for end in (0, -1))
        cosines = (unit[first] * unit[last]).sum(-1, keepdim=True).cpu().numpy()
        alone = unit.cpu().numpy()
        return [
            cosine if len(row) > 1 else alone[row[0]].copy()
            for row, cosine in zip(reads.rows, cosines, strict=True)
        ]

    def logits(
        self, backbone: Backbone, batch: PackedBatch, spec: HeadSpec, head: nn.Linear | None
    ) -> Tensor:
        """Of a batch of pairs, u and v in turn."""
        unit = self.embeddings(backbone, batch, spec.pooling)
        return (unit[0::2] * unit[1::2]).sum(-1, keepdim=True)

    def loss_of(
        self,
        backbone: Backbone,
        hidden: Tensor,
        batch: PackedBatch,
        spec: HeadSpec,
        head: nn.Linear | None,
        wanted: Wanted,
    ) -> Tensor:
        unit = normalize(self.states(backbone, hidden, batch, spec.pooling), dim=-1)
        u, v = unit[0::2], unit[1::2]
        if spec.low is not None:
            return KINDS[spec.kind].loss((u * v).sum(-1, keepdim=True), wanted.targets, None)
        known: dict[tuple[int, ...], int] = {}
        numbers = [known.setdefault(tuple(text.ids), len(known)) for text in batch.encoded]
        texts = torch.tensor(numbers, device=unit.device)
        return in_batch_loss(u, v, texts[0::2], texts[1::2], wanted.targets > 0)

    def measured_loss(self, spec: HeadSpec, logits: Tensor, wanted: Wanted) -> Tensor:
        """Without scores: how far from 1 the cosines of positives are, and above 0 those of the others."""
        if spec.low is not None:
            return super().measured_loss(spec, logits, wanted)
        cosines = logits[:, 0]
        return torch.where(wanted.targets > 0, 1 - cosines, cosines.clamp(min=0)).mean()


def in_batch_loss(u: Tensor, v: Tensor, first: Tensor, second: Tensor, positive: Tensor) -> Tensor:
    """The softmax loss of finding each positive's partner among all texts of the batch, either way round.

    u, v: unit embeddings [B, H] of pairs; first, second: numbers [B] of their texts, equal for equal texts;
    positive [B]: which pairs belong together. The partners in other pairs, which are ones to learn from, are
    also wrong answers (Henderson et al. 2017, arXiv 1705.00652). What is the same text as the right answer
    or as the question, or a right answer of the same question, is none and is left out.
    """
    scores = u @ v.T / TEMPERATURE  # [B, B]
    losses = [
        _softmax_loss(found, question, answer, positive)
        for found, question, answer in ((scores, first, second), (scores.T, second, first))
    ]
    return (losses[0] + losses[1]) / 2


def _softmax_loss(scores: Tensor, question: Tensor, answer: Tensor, positive: Tensor) -> Tensor:
    if not bool(positive.any()):
        return 0 * scores.sum()  # nothing is learnt of pairs that do not belong together by themselves
    same_answer = answer[:, None] == answer[None]
    is_question = question[:, None] == answer[None]
    also_right = (question[:, None] == question[None]) & positive[None]
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    left_out = (same_answer | is_question | also_right) & ~own
    places = torch.arange(len(scores), device=scores.device)
    return cross_entropy(scores.masked_fill(left_out, -torch.inf)[positive], places[positive])


READOUTS.add(Cosine())
