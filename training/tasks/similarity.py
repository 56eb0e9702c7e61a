"""How alike two texts are: embeddings, trained on pairs with scores or on pairs that belong together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.errors import DataError
from training.metrics.ranking import RETRIEVAL, Embedded, num_candidates, ranks
from training.metrics.scores import SIMILARITY, Floats, Measures, Metric, scores_of
from training.rows.canonical import Occurrence, TargetError, canonical
from training.rows.examples import Target
from training.rows.labels import Labels, one_label
from training.rows.split import bins_of
from training.tasks.base import Baseline, DataKinds, Logits, Task, register
from training.tasks.judged import Judged
from training.tasks.regression import parse_number

if TYPE_CHECKING:
    import torch

    from modeling import Backbone, HeadSpec

_NAMES = ("0", "1")
_MEANING = {"0": 0, "1": 1, "false": 0, "true": 1}


@register
@dataclass(frozen=True)
class Similarity(Task):
    """`scored`: targets are numbers, learnt as cosines from 0 (the lowest train score) to 1 (the highest).

    Else a target is 1 for a pair that belongs together, which is all that rows without a label are, and 0
    for one that does not.
    """

    scored: bool = False
    value_range: tuple[float, float] | None = None

    kind = "similarity"
    data_kinds: ClassVar[DataKinds] = {"similarity": (2,)}
    measures = SIMILARITY
    least_names = 0
    may_lack_labels = True
    usual_labels = ("label", "labels", "score", "similarity", "similarity_score")

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        if spec is None:
            return cls((), metric, scored=len(names) == 1)
        if spec.low is None or spec.high is None:
            return cls((), metric)
        return cls((), metric, scored=True, value_range=(spec.low, spec.high))

    @classmethod
    def measured_by(cls, names: Sequence[str], spec: "HeadSpec | None" = None) -> Measures:
        scored = len(names) == 1 if spec is None else spec.low is not None
        return SIMILARITY if scored else RETRIEVAL

    def poolings(self, backbone: "Backbone") -> tuple[str, ...]:
        return backbone.poolings

    @classmethod
    def in_text(cls) -> type[Task] | None:
        return None

    @classmethod
    def read_labels(
        cls, found: Sequence[Occurrence], names: Sequence[str] | None, field: str, *, places: bool = True
    ) -> tuple[Labels, list[str]]:
        """Two given names, or noughts and ones, say which pairs belong together; else there are scores."""
        told = "pairs labelled {} belong together, those with {} do not (scores: other numbers)"
        if names is not None and len(names) == 2:
            labels, notes = one_label(found, names, places=places)
            return labels, [*notes, told.format(repr(names[1]), repr(names[0]))]
        texts = _texts(found)
        if not texts <= _MEANING.keys():
            return Labels((field,), {}), []
        if not field:
            told = "no field of labels: every row is a pair that belongs together (scores: --label-field)"
        return Labels(_NAMES, _MEANING), [told.format(1, 0)]

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    @property
    def learns_one(self) -> bool:
        """Pairs that belong together are told from what does not by each other."""
        return not self.scored

    def parse(self, value: Any, labels: Labels) -> int | float:
        """A score, or 1 and 0."""
        if self.scored:
            return parse_number(value, "a score")
        return (labels if labels.meaning else Labels(_NAMES, _MEANING)).index(value)

    def strata(self, targets: Sequence[Target], fraction: float = 0.1) -> list[tuple[int, ...]]:
        """Scores in bins by rank, so that a drawn split spans the range."""
        if not self.scored:
            return super().strata(targets, fraction)
        return [(place,) for place in bins_of(self._array(targets).tolist(), fraction)]

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Float32 [N]: the cosine that is wanted; or 1 and 0."""
        import torch

        low, high = self.value_range or (0.0, 1.0)
        return torch.from_numpy((self._array(targets) - low) / ((high - low) or 1.0)).float()

    def fitted(self, targets: Sequence[Target]) -> "Similarity":
        """With the range of the train scores. Raises DataError where no pair belongs together."""
        if self.scored:
            values = self._array(targets)
            return replace(self, value_range=(float(values.min()), float(values.max())))
        if not any(target == 1 for target in targets):
            raise DataError(
                f"none of {len(targets)} train pairs has the label 1: a similarity is learnt from pairs that "
                "belong together; add some, or give scores"
            )
        return self

    def found(
        self,
        logits: Logits,
        texts: Sequence[str] | None,
        targets: Sequence[Target],
        embedded: Embedded | None = None,
    ) -> Logits:
        """Cosines [N, 1]; without scores beside them ranks, and among how many texts they are [N, 3]."""
        if self.scored:
            return logits
        assert embedded is not None, "partners are looked for by embeddings: this is a bug"
        places = ranks(embedded, self._array(targets) == 1)
        among = np.full(len(places), num_candidates(embedded.texts))
        return np.column_stack([logits[:, 0], places, among]).astype(np.float32)

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Correlations of cosines and scores, or how well partners are found; NaN when one is not finite."""
        values, truth = logits.astype(np.float64), self._array(targets)
        if self.scored:
            return self.metric.with_mean(scores_of(SIMILARITY, truth, values[:, 0]))
        positive = truth == 1
        if not np.isfinite(values).all() or not positive.any():
            return dict.fromkeys(RETRIEVAL.values, math.nan)
        return self.metric.with_mean(scores_of(RETRIEVAL, positive, values[:, 1]))

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """A constant, which has no correlation, and finds nothing."""
        return Baseline("constant", {})

    def spec(self, pooling: str) -> "HeadSpec":
        from modeling import HeadSpec

        low, high = (self.value_range if self.scored else None) or (None, None)
        return HeadSpec(self.kind, (), pooling, low=low, high=high)

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        """Scores as numbers; without scores each pair's cosine: what it lacks to 1, or has over 0."""
        wanted, told = self._array(targets), np.array([one.score for one in self._decided(spec, logits)])
        if self.scored:
            return Judged((), wanted.tolist(), told.tolist(), np.abs(told - wanted), numbers=(wanted, told))
        loss = np.where(wanted == 1, 1 - told, told.clip(min=0))
        return Judged((), wanted.astype(int).tolist(), told.tolist(), loss)

    def told(self, target: Target) -> Target:
        return target

    def constant_warning(self, logits: Logits) -> str | None:
        """The cosines hardly differ."""
        cosines = logits[:, 0]
        if len(cosines) < 2 or float(cosines.std()) > 1e-4:
            return None
        return (
            f"every validation pair has a cosine of about {float(cosines.mean()):.3g}: the texts are ignored"
        )

    def _array(self, targets: Sequence[Target]) -> Floats:
        return np.asarray(targets, dtype=np.float64)


def _texts(found: Sequence[Occurrence]) -> set[str]:
    texts = set()
    for one in found:
        try:
            texts.add(canonical(one.value))
        except TargetError:
            continue  # refused with its row
    return texts - {""}
