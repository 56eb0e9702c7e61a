"""similarity: how alike two texts are, as the cosine of their embeddings; of one text, its embedding."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import mse_loss

from failures import Failure

from .base import KINDS, Answer, Choices, Floats, HeadSpec, Kind, refused
from .regression import clamped

COSINE = "cosine"


class Similarity(Kind):
    """Where the data had scores, `low` and `high` are the scores of the cosines 0 and 1; else it had none."""

    name = "similarity"
    readout = "cosine"
    options = ("low", "high")

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        """Cosines [N, 1] -> the score in the data's units, or the cosine itself; the cosine in any case."""
        cosines = values = np.clip(logits, -1, 1)  # of equal texts it may be off by its rounding
        if spec.low is not None and spec.high is not None:
            values = spec.low + cosines * (spec.high - spec.low)
        scores = clamped(values, spec.low, spec.high).tolist()
        return [
            Answer(None, score, {COSINE: cosine})
            for score, cosine in zip(scores, cosines[:, 0].tolist(), strict=True)
        ]

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Of cosines [B, 1] and scores [B] scaled to 0 and 1 (Reimers and Gurevych 2019, section 3)."""
        return mse_loss(logits[:, 0], targets)

    def check(self, spec: HeadSpec) -> list[Failure]:
        failures = self.check_options(spec)
        if spec.labels:
            failures.append(
                refused("labels", list(spec.labels), "[]: a similarity has no head, and no labels")
            )
        return failures


KINDS.add(Similarity())
