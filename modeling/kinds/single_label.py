"""single_label: exactly one of L classes; softmax."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from failures import Failure

from .base import KINDS, Answer, Floats, HeadSpec, Kind, Names, best_first, check_labels, softmax


class SingleLabel(Kind):
    """Class weights [L] weigh the loss of each class."""

    name = "single_label"

    def decide(self, spec: HeadSpec, logits: Floats, names: Names, top_k: int | None) -> list[Answer]:
        found = best_first(names, softmax(logits), top_k)
        return [Answer(*next(iter(scores.items())), scores) for scores in found]

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """targets [B] class numbers."""
        return cross_entropy(logits, targets, weight=weights)

    def check(self, spec: HeadSpec) -> list[Failure]:
        return [*check_labels(spec, least=2), *self.check_options(spec)]


KINDS.add(SingleLabel())
