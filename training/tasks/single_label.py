"""One label out of several: single texts and pairs alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.formats import Formatter
from training.metrics.scores import SINGLE_LABEL, Floats, Metric, positive_class, single_label_scores
from training.rows.examples import Target
from training.tasks.as_strings import AsStrings
from training.tasks.base import Baseline, DataKinds, Logits, Task, commonest, register
from training.tasks.judged import Judged, one_of

if TYPE_CHECKING:
    from modeling import HeadSpec


@register
@dataclass(frozen=True)
class SingleLabel(Task):
    """Softmax over `labels`; `positive` is the class whose F1 is shown."""

    positive: int | None = None

    kind = "single_label"
    data_kinds: ClassVar[DataKinds] = {"single_sentence": (1,), "sentence_pair": (2,)}
    measures = SINGLE_LABEL
    weighted = True

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        named = names.index(metric.positive) if metric.positive in names else positive_class(text, names)
        return cls(names, metric, named)

    def as_text(self, formatter: Formatter) -> Task:
        return AsStrings(formatter.label_strings(self.labels), self.metric, self)

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Of the best label of each row; NaN when a logit is not finite."""
        values = self._scores(logits.argmax(axis=1), targets)
        return values if np.isfinite(logits).all() else dict.fromkeys(values, float("nan"))

    def row_values(self, logits: Logits, targets: Sequence[Target]) -> Floats | None:
        if self.metric.name != "accuracy":
            return None
        right: Floats = (logits.argmax(axis=1) == np.asarray(targets, dtype=np.int64)).astype(np.float64)
        return right

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        found, num_labels = super().judged(spec, logits, targets), len(self.labels)
        wanted = one_of([index_of(target) for target in targets], num_labels)
        return replace(found, sets=(wanted, one_of(logits.argmax(axis=1).tolist(), num_labels)), single=True)

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest class of the train rows for every row."""
        majority = index_of(commonest(train))
        predicted = np.full(len(targets), majority, dtype=np.int64)
        return Baseline(f"majority ({self.labels[majority]})", self._scores(predicted, targets))

    def _scores(self, predicted: np.ndarray[Any, Any], targets: Sequence[Target]) -> dict[str, float]:
        truth = np.asarray(targets, dtype=np.int64)
        return self.metric.with_mean(single_label_scores(truth, predicted, self.positive))


def index_of(target: Target) -> int:
    if not isinstance(target, int):
        raise TypeError(f"a single-label target is an index, got {target!r}: this is a bug")
    return target
