"""What a kind of task is: the meaning of logits. It knows numbers and labels, not how the numbers came out.

N rows, L labels, K choices of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from failures import Failure

from ..registry import Registry

Floats = npt.NDArray[np.float64]
Choices = Sequence[Sequence[Any]]
"""What each row brings that its answer is made of: its choices, or where its words begin and end."""
FEW_SCORES = 64
"""So many are sorted by Python: numpy's sort lets go of the interpreter, and has to wait for it."""
_CORRECT = "Correct it and write the file again."


@dataclass(frozen=True, slots=True)
class Abstention:
    """The `threshold` under whose score no label is answered.

    `target_error` is what was asked for; on `rows` held-out rows the share `coverage` was answered, of these
    the share `error` wrongly, for which `error_bound` is a one-sided upper bound.
    """

    threshold: float
    target_error: float
    coverage: float
    error: float
    error_bound: float
    rows: int


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What a file says of a task's answers: kind, labels in the order of the logits, pooling.

    `kind` is the file's word, which names a kind or a readout (`readouts.readout_of`). The rest belongs to
    single kinds: `threshold` is the probability from which a multi_label assigns a label, `low` and `high`
    bound a regression's answers, `max_new_tokens` those of a text_to_text without labels. `temperature`
    divides the logits before they become probabilities; None is 1.
    """

    kind: str
    labels: tuple[str, ...]
    pooling: str = "mean"
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    abstain: Abstention | None = None


OPTIONS = ("threshold", "low", "high", "max_new_tokens", "temperature", "abstain")
"""Fields of a spec that single kinds have; null for all others."""


class Entity(NamedTuple):
    """Some words of a text that have a label: where they begin and end (characters), and how sure that is."""

    start: int
    end: int
    label: str
    score: float


class Answer(NamedTuple):
    """What a caller gets for one row: its label or labels, the score, all scores best first.

    `choice` is the place of the chosen one among the row's own choices; `entities` are what was found in a
    text, in their order there. `unknown`: the label is withheld, as its score is under the task's threshold.
    """

    label: str | list[str] | None
    score: float
    scores: dict[str, float]
    choice: int | None = None
    entities: list[Entity] | None = None
    unknown: bool = False

    def unless_unsure(self, spec: HeadSpec) -> Answer:
        """The same, without its label where the task abstains."""
        if spec.abstain is None or self.score >= spec.abstain.threshold:
            return self
        return self._replace(label=None, choice=None, unknown=True)


class Kind(ABC):
    """What logits mean. `readout` answers a task whose file says this kind's name."""

    name: ClassVar[str]
    readout: ClassVar[str] = "pooled"
    choices: ClassVar[bool] = False  # each row brings its own labels, and one logit for each
    options: ClassVar[tuple[str, ...]] = ()  # fields of the spec that are this kind's
    saturates: ClassVar[bool] = True  # its loss vanishes, and with it every gradient, as logits grow
    margin_word: ClassVar[str | None] = None  # what `margin` is; None: no single answer can be weighed

    @abstractmethod
    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        """Logits [N, L] -> N answers, with the best `top_k` scores; `choices` are what each row brings.

        A row of no use (one that failed before) holds any numbers, and may have no choices; what comes out is
        thrown away.
        """

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Logits [B, L], targets as the kind stacks them, class weights [L] or None -> mean loss."""

    def margin(self, spec: HeadSpec, logits: Floats, index: int) -> Floats:
        """How far logits [N, L] speak for the answer `index`, in logits (or the kind's unit): [N]."""
        raise TypeError(f"{self.name} has no single answer to weigh: this is a bug")

    def probability(self, spec: HeadSpec, logits: Floats, index: int) -> Floats | None:
        """Of the answer `index`, from logits [N, L]: [N]; None where an answer is not a probability."""
        return None

    def check(self, spec: HeadSpec) -> list[Failure]:
        """Everything in a spec that this kind cannot have."""
        return self.check_options(spec)

    def check_options(self, spec: HeadSpec) -> list[Failure]:
        """Fields that belong to other kinds."""
        return [
            refused(name, getattr(spec, name), f"null for {spec.kind}")
            for name in OPTIONS
            if name not in self.options and getattr(spec, name) is not None
        ]


KINDS: Registry[Kind] = Registry("head kind")


def refused(field: str, got: Any, allowed: str) -> Failure:
    """Something in a spec, by the name of its field."""
    return Failure(f"head.{field}", repr(got)[:80], allowed, _CORRECT)


def check_labels(spec: HeadSpec, least: int) -> list[Failure]:
    """At least `least` labels, none twice."""
    if len(spec.labels) >= least and len(set(spec.labels)) == len(spec.labels):
        return []
    return [refused("labels", list(spec.labels), f"at least {least} different labels")]


def tempered(spec: HeadSpec, logits: Floats) -> Floats:
    """Logits over the spec's temperature: their order is the same, their probabilities are calibrated.

    Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2.
    """
    return logits if spec.temperature is None else logits / spec.temperature


def softmax(logits: Floats) -> Floats:
    powers: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def by_row(rows: Sequence[npt.NDArray[Any]]) -> Floats:
    """Flat logits of each row as one matrix [N, P], with NaN behind those of shorter rows."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def lead(logits: Floats, index: int) -> Floats:
    """Logits [N, L] of `index` over the best other one [N]; of a single one, itself."""
    others = np.delete(logits, index, axis=1)
    return logits[:, index] - others.max(axis=1) if others.shape[1] else logits[:, index]


def sigmoid(logits: Floats) -> Floats:
    """Element by element; exp of negative numbers only, so that no logit overflows."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def _best_first(
    labels: Sequence[str], scores: list[float], top_k: int | None
) -> tuple[list[str], list[float]]:
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:top_k]  # stable in reverse too
    return [labels[place] for place in order], [scores[place] for place in order]


def best_first(
    labels: Sequence[str], scores: Floats, top_k: int | None
) -> list[tuple[list[str], list[float]]]:
    """Labels and scores of each row of scores [N, L]; equal scores keep the order of the labels."""
    if scores.size <= FEW_SCORES:
        return [_best_first(labels, row, top_k) for row in scores.tolist()]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    names = np.array(labels, dtype=object)[order].tolist()
    return list(zip(names, np.take_along_axis(scores, order, axis=1).tolist(), strict=True))
