"""regression: one number in the data's own unit, kept inside the range of the training data when known."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import mse_loss

from failures import Failure

from .base import KINDS, Answer, Choices, Floats, HeadSpec, Kind, refused


def clamped(logits: Floats, low: float | None, high: float | None) -> Floats:
    """The numbers [N] that logits [N, 1] mean."""
    values = logits[:, 0]
    return values if low is None and high is None else np.clip(values, low, high)


class Regression(Kind):
    """Its one label names the number."""

    name = "regression"
    saturates = False
    margin_word = "the number, before it is kept inside the range of the training data"
    options = ("low", "high")

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        (name,) = spec.labels
        values = clamped(logits, spec.low, spec.high).tolist()
        return [Answer(None, value, {name: value}) for value in values]

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """targets [B]; weights are not used."""
        return mse_loss(logits[:, 0], targets)

    def margin(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        return logits[:, 0]

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = self.check_options(spec)
        if len(spec.labels) != 1:
            failures.append(refused("labels", list(spec.labels), "Exactly one name for a regression"))
        return failures


KINDS.add(Regression())
