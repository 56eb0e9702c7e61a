"""single_label: exactly one of L classes; softmax."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import Failure
from .base import HEADS, Answer, HeadKind, HeadSpec, Logits, best_first, check_labels


def decide(spec: HeadSpec, logits: Logits, top_k: int | None) -> Answer:
    """Softmax over logits [L]; the best label."""
    shifted = np.exp(logits - logits.max())
    scores = best_first(spec.labels, shifted / shifted.sum(), top_k)
    label, score = next(iter(scores.items()))
    return Answer(label, score, scores)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """logits [B, L], targets [B] class numbers, weights [L]."""
    return cross_entropy(logits, targets, weight=weights)


def _check(spec: HeadSpec) -> list[Failure]:
    return check_labels(spec, least=2)


HEADS.register("single_label")(HeadKind("single_label", decide, _loss, _check))
