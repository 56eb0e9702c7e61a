"""single_label: exactly one of L classes; softmax."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

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
    lead,
    softmax,
    tempered,
)


class SingleLabel(Kind):
    """Class weights [L] weigh the loss of each class."""

    name = "single_label"
    margin_word = "the label's logit over the best other label's"
    options = ("temperature", "abstain")

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        ordered = best_first(spec.labels, softmax(tempered(spec, logits)), top_k)
        answers = [
            Answer(names[0], scores[0], dict(zip(names, scores, strict=True))) for names, scores in ordered
        ]
        return answers if spec.abstain is None else [one.unless_unsure(spec) for one in answers]

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """targets [B] class numbers."""
        return cross_entropy(logits, targets, weight=weights)

    def margin(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return lead(logits, index)

    def probability(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return softmax(tempered(spec, logits))[:, index]

    def check(self, spec: HeadSpec) -> list[Failure]:
        return [*check_labels(spec, least=2), *self.check_options(spec)]


KINDS.add(SingleLabel())
