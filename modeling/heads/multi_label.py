"""multi_label: any number of L labels; a sigmoid each and a threshold."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..errors import Failure
from .base import HEADS, Answer, HeadKind, HeadSpec, Logits, best_first, check_labels

DEFAULT_THRESHOLD = 0.5


def _decide(spec: HeadSpec, logits: Logits, top_k: int | None) -> Answer:
    # exp of a negative number only, so that no logit overflows
    small = np.exp(-np.abs(logits))
    probabilities = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    threshold = DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
    every = best_first(spec.labels, probabilities, None)
    chosen = [label for label, score in every.items() if score >= threshold]
    scores = dict(list(every.items())[:top_k])
    return Answer(chosen, next(iter(every.values())), scores)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """logits [B, L], targets [B, L] of 0 and 1, weights [L] of the positive class."""
    return binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)


def _check(spec: HeadSpec) -> list[Failure]:
    failures = check_labels(spec, least=1)
    if spec.threshold is not None and not 0 < spec.threshold < 1:
        failures.append(
            Failure("head.threshold", str(spec.threshold), "between 0 and 1", "choose it on validation data.")
        )
    return failures


HEADS.register("multi_label")(HeadKind("multi_label", _decide, _loss, _check))
