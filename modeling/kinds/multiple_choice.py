"""multiple_choice: one of K texts that come with the question; one logit per choice, softmax over them.

An item is K pairs (text, choice), each a row of its own in the batch; the head has a single output.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    lead,
    refused,
    softmax,
    tempered,
)

CHOICE_LABEL = "choice"
_NOTHING = Answer(None, 0.0, {})


class MultipleChoice(Kind):
    """The labels of a row are its own choices."""

    name = "multiple_choice"
    margin_word = "the choice's logit over the best other choice's"
    choices = True
    options = ("temperature", "abstain")

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        """Row i has as many logits as choices; what stands behind them is of no use."""
        return [
            self._one(row[: len(own)], own, top_k).unless_unsure(spec) if own else _NOTHING
            for row, own in zip(tempered(spec, logits), choices, strict=True)
        ]

    def _one(self, logits: Floats, choices: Sequence[str], top_k: int | None) -> Answer:
        ((names, scores),) = best_first(choices, softmax(logits)[None], top_k)
        listed = dict(zip(names, scores, strict=True))
        return Answer(names[0], scores[0], listed, choices.index(names[0]))

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """logits [B, K], targets [B] numbers of the right choices; weights are not used."""
        return cross_entropy(logits, targets)

    def margin(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return lead(logits, index)

    def probability(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return softmax(tempered(spec, logits))[:, index]

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = self.check_options(spec)
        if spec.labels != (CHOICE_LABEL,):
            allowed = f"[{CHOICE_LABEL!r}]: the head of a multiple_choice scores one choice"
            failures.append(refused("labels", list(spec.labels), allowed))
        return failures


KINDS.add(MultipleChoice())
