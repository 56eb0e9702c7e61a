"""multi_label: any number of L labels; a sigmoid each and a threshold."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from failures import Failure

from .base import (
    KINDS,
    Answer,
    Choices,
    Floats,
    HeadSpec,
    Kind,
    best_first,
    check_labels,
    refused,
    sigmoid,
    tempered,
)

DEFAULT_THRESHOLD = 0.5


class MultiLabel(Kind):
    """A label is assigned from the spec's threshold on."""

    name = "multi_label"
    margin_word = "the label's logit over that of its threshold: above 0 it is assigned"
    options = ("threshold", "temperature")

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        threshold = _threshold(spec)
        probabilities = sigmoid(tempered(spec, logits))
        num_chosen = (probabilities >= threshold).sum(axis=1).tolist()
        return [
            Answer(names[:chosen], scores[0], dict(zip(names[:top_k], scores, strict=False)))
            for chosen, (names, scores) in zip(
                num_chosen, best_first(spec.labels, probabilities, None), strict=True
            )
        ]

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """targets [B, L] of 0 and 1; weights [L] of the positive class."""
        return binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)

    def margin(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        """The temperature moves the logit that a threshold stands for, not the label's own."""
        threshold = _threshold(spec)
        return logits[:, index] - (spec.temperature or 1.0) * math.log(threshold / (1 - threshold))

    def probability(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return sigmoid(tempered(spec, logits)[:, index])

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = [*check_labels(spec, least=1), *self.check_options(spec)]
        if spec.threshold is not None and not 0 < spec.threshold < 1:
            failures.append(refused("threshold", spec.threshold, "between 0 and 1"))
        return failures


def _threshold(spec: HeadSpec) -> float:
    return DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold


KINDS.add(MultiLabel())
