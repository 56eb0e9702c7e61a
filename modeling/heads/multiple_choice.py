"""multiple_choice: one of K texts that come with the question; one logit per choice, softmax over them.

An item is K pairs (text, choice), each a row of its own; the head has a single output.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..errors import Failure
from .base import HEADS, Answer, HeadKind, HeadSpec, Logits, best_first


def _decide(spec: HeadSpec, logits: Logits, top_k: int | None) -> Answer:
    """logits [K]: the label is the number of the choice, as text."""
    shifted = np.exp(logits - logits.max())
    scores = best_first([str(i) for i in range(len(logits))], shifted / shifted.sum(), top_k)
    label, score = next(iter(scores.items()))
    return Answer(label, score, scores)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """logits [B, K], targets [B] numbers of the right choices; weights are not used."""
    return cross_entropy(logits, targets)


def _check(spec: HeadSpec) -> list[Failure]:
    if len(spec.labels) == 1:
        return []
    allowed = "exactly one name"
    return [Failure("head.labels", str(len(spec.labels)), allowed, "name the score of a choice.")]


HEADS.register("multiple_choice")(HeadKind("multiple_choice", _decide, _loss, _check))
