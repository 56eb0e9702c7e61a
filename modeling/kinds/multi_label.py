"""multi_label: any number of L labels; a sigmoid each and a threshold."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from failures import Failure

from .base import KINDS, Answer, Floats, HeadSpec, Kind, Names, best_first, check_labels, refused, sigmoid

DEFAULT_THRESHOLD = 0.5


class MultiLabel(Kind):
    """A label is assigned from the spec's threshold on."""

    name = "multi_label"
    options = ("threshold",)

    def decide(self, spec: HeadSpec, logits: Floats, names: Names, top_k: int | None) -> list[Answer]:
        threshold = DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
        answers = []
        for scores in best_first(names, sigmoid(logits), None):
            chosen = [label for label, score in scores.items() if score >= threshold]
            kept = dict(list(scores.items())[:top_k])
            answers.append(Answer(chosen, next(iter(scores.values())), kept))
        return answers

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """targets [B, L] of 0 and 1; weights [L] of the positive class."""
        return binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = [*check_labels(spec, least=1), *self.check_options(spec)]
        if spec.threshold is not None and not 0 < spec.threshold < 1:
            failures.append(refused("threshold", spec.threshold, "between 0 and 1"))
        return failures


KINDS.add(MultiLabel())
