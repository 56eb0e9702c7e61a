"""Any number of labels at once: a list, noughts and ones, or a cell such as `a|b`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.metrics.calibration import Confidence
from training.metrics.scores import MULTI_LABEL, Floats, Ints, Metric, scores_of
from training.rows.canonical import Occurrence
from training.rows.examples import Target
from training.rows.labels import Labels, several_labels
from training.tasks.base import Baseline, DataKinds, Logits, Task, commonest, register
from training.tasks.judged import Judged

if TYPE_CHECKING:
    import torch

    from modeling import HeadSpec

DEFAULT_THRESHOLD = 0.5  # as in modeling.kinds.multi_label
_GRID = tuple(round(0.05 * step, 2) for step in range(2, 19))


@register
@dataclass(frozen=True)
class MultiLabel(Task):
    """A sigmoid per label; a label is answered when its probability is at least `threshold`.

    `temperature` is that of a trained task, under which its threshold is meant.
    """

    threshold: float = DEFAULT_THRESHOLD
    temperature: float = 1.0

    kind = "multi_label"
    data_kinds: ClassVar[DataKinds] = {"multi_label": (1, 2)}
    measures = MULTI_LABEL
    least_names = 1
    weighted = True

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        if spec is None:
            return cls(names, metric)
        threshold = DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
        return cls(names, metric, threshold, 1.0 if spec.temperature is None else spec.temperature)

    @classmethod
    def in_text(cls) -> None:
        """A target is one string."""
        return

    @classmethod
    def read_labels(
        cls, found: Sequence[Occurrence], names: Sequence[str] | None, field: str, *, places: bool = True
    ) -> tuple[Labels, list[str]]:
        """Of any number in one value."""
        del field
        return several_labels(found, names, places=places)

    def parse(self, value: Any, labels: Labels) -> tuple[int, ...]:
        """The places of a row's labels; empty means none of them."""
        return labels.indices(value)

    def strata(self, targets: Sequence[Target], fraction: float = 0.1) -> list[tuple[int, ...]]:
        """All labels of each row."""
        return [_indices(target) for target in targets]

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Float32 [N, L] of 0 and 1."""
        import torch

        return torch.from_numpy(self._matrix(targets)).float()

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> "MultiLabel":
        """The threshold with the best metric on these rows; the one nearest to a half among equals."""
        from modeling.kinds.base import sigmoid

        if not np.isfinite(logits).all():
            return self
        truth, probability = self._matrix(targets), sigmoid(logits.astype(np.float64))
        values = {
            t: sum(MULTI_LABEL.values[part](truth, _over(probability, t)) for part in self.metric.parts)
            for t in _GRID
        }
        best = max(values.values())
        equal = [threshold for threshold, value in values.items() if value == best]
        return replace(self, threshold=min(equal, key=lambda threshold: abs(threshold - DEFAULT_THRESHOLD)))

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """NaN when a logit is not finite."""
        values = self._scores(self._chosen(logits), targets)
        return values if np.isfinite(logits).all() else dict.fromkeys(values, float("nan"))

    def row_values(self, logits: Logits, targets: Sequence[Target]) -> Floats | None:
        if self.metric.name != "exact_match":
            return None
        right: Floats = (self._chosen(logits) == self._matrix(targets)).all(axis=1).astype(np.float64)
        return right

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        """Every label of every row has a score of its own; an answer is as sure as its least sure label."""
        from modeling.kinds.base import sigmoid, tempered

        found = super().judged(spec, logits, targets)
        truth, threshold = self._matrix(targets), spec.threshold or DEFAULT_THRESHOLD
        chances = sigmoid(tempered(spec, logits.astype(np.float64)))
        told = _over(chances, threshold)
        sure = np.where(told == 1, chances, 1 - chances).min(axis=1)
        return replace(
            found,
            told=[[name for name, hit in zip(self.labels, row, strict=True) if hit] for row in told.tolist()],
            right=(truth == told).all(axis=1),
            sure=sure,
            confidence=Confidence(chances.ravel(), truth.ravel() == 1),
            sets=(truth, told),
        )

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest set of labels of the train rows, or their commonest label: the better one."""
        common_label = Counter(i for target in train for i in _indices(target)).most_common(1)
        options = []
        for chosen in (_indices(commonest(train)), tuple(index for index, _ in common_label)):
            shown = "|".join(self.labels[i] for i in chosen) or "none"
            values = self._scores(self._matrix([chosen] * len(targets)), targets)
            options.append(Baseline(f"majority ({shown})", values))
        return max(options, key=lambda option: option.values[self.metric.name])

    def balance(self, count: int, total: int) -> float:
        """Negatives over positives, which may be nought."""
        return (total - count) / count

    def spec(self, pooling: str) -> "HeadSpec":
        from modeling import HeadSpec

        temperature = None if self.temperature == 1 else self.temperature
        return HeadSpec(self.kind, self.labels, pooling, threshold=self.threshold, temperature=temperature)

    def told(self, target: Target) -> list[str]:
        return [self.labels[index] for index in _indices(target)]

    def constant_warning(self, logits: Logits) -> str | None:
        """Every row the same set."""
        chosen = self._chosen(logits)
        if len(logits) < 2 or (chosen != chosen[0]).any():
            return None
        names = [label for label, hit in zip(self.labels, chosen[0], strict=True) if hit]
        return f"every validation row is answered {names}: the adapter ignores the text"

    def _scores(self, chosen: Ints, targets: Sequence[Target]) -> dict[str, float]:
        return self.metric.with_mean(scores_of(MULTI_LABEL, self._matrix(targets), chosen))

    def _chosen(self, logits: Logits) -> Ints:
        from modeling.kinds.base import sigmoid

        return _over(sigmoid(logits.astype(np.float64) / self.temperature), self.threshold)

    def _matrix(self, targets: Sequence[Target]) -> Ints:
        matrix = np.zeros((len(targets), len(self.labels)), dtype=np.int64)
        for row, target in enumerate(targets):
            matrix[row, list(_indices(target))] = 1
        return matrix


def _over(probability: Floats, threshold: float) -> Ints:
    return (probability >= threshold).astype(np.int64)


def _indices(target: Target) -> tuple[int, ...]:
    if not isinstance(target, tuple):
        raise TypeError(f"a multi-label target is a tuple of indices, got {target!r}: this is a bug")
    return tuple(map(int, target))
