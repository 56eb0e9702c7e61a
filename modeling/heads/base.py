"""What a head is: a linear layer on a pooled state, a kind that gives its logits a meaning, and labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..errors import Failure
from ..registry import Registry

Logits = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A task's head: kind, labels in the order of its logits (regression: one name), pooling.

    `threshold` is the probability from which a multi-label task assigns a label (0.5 when not given);
    `low` and `high` bound a regression's answers when given. A text_to_text without labels answers with any
    text, of at most `max_new_tokens` tokens.
    """

    kind: str
    labels: tuple[str, ...]
    pooling: str = "mean"
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    max_new_tokens: int | None = None

    @property
    def is_free_text(self) -> bool:
        """Whether answers are written and not chosen: there are no labels to score."""
        return self.kind == "text_to_text" and not self.labels


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller gets for one text: the label or labels, its score, all scores best first, logits."""

    label: str | list[str] | None
    score: float
    scores: dict[str, float]
    logits: list[float] | None = None


@dataclass(frozen=True, slots=True)
class HeadKind:
    """`decide(spec, logits, top_k)` turns logits [L] into an answer; `loss(logits, targets, weights)` trains.

    `loss` takes logits [B, L], targets as the kind defines them and class weights [L] or None.
    `check(spec)` lists what is wrong with a spec of this kind.
    """

    name: str
    decide: Callable[[HeadSpec, Logits, int | None], Answer]
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    check: Callable[[HeadSpec], list[Failure]]


HEADS: Registry[HeadKind] = Registry("head kind")


def answer(spec: HeadSpec, logits: Logits, *, top_k: int | None = None, raw: bool = False) -> Answer:
    """The answer that logits [L] mean under `spec`, its scores cut to the best `top_k`."""
    decided = HEADS[spec.kind].decide(spec, np.asarray(logits, dtype=np.float64), top_k)
    if not raw:
        return decided
    return Answer(decided.label, decided.score, decided.scores, [float(v) for v in logits])


def best_first(labels: Sequence[str], scores: Logits, top_k: int | None) -> dict[str, float]:
    """Labels with their scores, best first; equal scores keep the order of the labels."""
    order = np.argsort(-scores, kind="stable")[:top_k]
    return {labels[i]: float(scores[i]) for i in order}


def check_labels(spec: HeadSpec, least: int) -> list[Failure]:
    """At least `least` labels, none twice."""
    if len(spec.labels) >= least and len(set(spec.labels)) == len(spec.labels):
        return []
    allowed = f"at least {least} different labels"
    return [Failure("head.labels", repr(list(spec.labels)), allowed, "name every class once.")]
