"""regression: one number in the data's own unit, kept inside the range of the training data when known."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from ..errors import Failure
from .base import HEADS, Answer, HeadKind, HeadSpec, Logits


def _decide(spec: HeadSpec, logits: Logits, top_k: int | None) -> Answer:
    value = float(logits[0])
    if spec.low is not None:
        value = max(value, spec.low)
    if spec.high is not None:
        value = min(value, spec.high)
    return Answer(None, value, {spec.labels[0]: value})


def _loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """logits [B, 1], targets [B]; weights are not used."""
    return mse_loss(logits[:, 0], targets)


def _check(spec: HeadSpec) -> list[Failure]:
    failures = []
    if len(spec.labels) != 1:
        failures.append(
            Failure(
                "head.labels", str(len(spec.labels)), "exactly one name", "name the number that is predicted."
            )
        )
    if spec.low is not None and spec.high is not None and spec.low >= spec.high:
        failures.append(Failure("head.low", str(spec.low), f"below head.high ({spec.high})", "swap the two."))
    return failures


HEADS.register("regression")(HeadKind("regression", _decide, _loss, _check))
