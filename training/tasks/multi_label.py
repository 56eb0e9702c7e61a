"""Any number of labels at once: a list of names or indices, or `a|b` in one cell."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from training.metrics import Floats, Ints, Metric, multi_label_scores, multi_label_value, with_mean
from training.tasks.base import Baseline, Logits, Target, TargetError, Task
from training.tasks.single_label import parse_label

SEPARATOR = "|"
_GRID = tuple(round(0.05 * step, 2) for step in range(2, 19))


@dataclass(frozen=True)
class MultiLabel:
    """A sigmoid per label; a label is answered when its probability is at least `threshold`."""

    labels: tuple[str, ...]
    metric: Metric
    threshold: float | None = 0.5
    kind: str = "multi_label"
    value_range: tuple[float, float] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def parse(self, value: Any) -> tuple[int, ...]:
        """A list of names or indices, or one cell `a|b`; empty means none of them."""
        if isinstance(value, str):
            value = [part for part in value.split(SEPARATOR) if part.strip()]
        if not isinstance(value, list | tuple):
            raise TargetError(
                f"{value!r} ({type(value).__name__})"[:120],
                f"write a list of labels, or names joined by {SEPARATOR!r}",
            )
        return tuple(sorted({parse_label(part, self.labels) for part in value}))

    def stratum(self, target: Target) -> Hashable:
        """The set of labels."""
        return target

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Float32 [N, L] of 0 and 1."""
        return torch.from_numpy(self._matrix(targets)).float()

    def fitted(self, targets: Sequence[Target]) -> Task:
        """Nothing to learn from the train targets."""
        del targets
        return self

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> Task:
        """The threshold with the best metric on these rows; the one nearest to a half among equals."""
        if not np.isfinite(logits).all():
            return self
        truth, probability = self._matrix(targets), _sigmoid(logits)
        values = {
            t: sum(multi_label_value(part, truth, _over(probability, t)) for part in self.metric.parts)
            for t in _GRID
        }
        best = max(values.values())
        equal = [threshold for threshold, value in values.items() if value == best]
        return replace(self, threshold=min(equal, key=lambda threshold: abs(threshold - 0.5)))

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Micro-F1, macro-F1, exact matches; NaN when a logit is not finite."""
        values = with_mean(multi_label_scores(self._matrix(targets), self._chosen(logits)), self.metric)
        return values if np.isfinite(logits).all() else dict.fromkeys(values, float("nan"))

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest set of labels of the train rows, or their commonest label: the better one."""
        common_set = Counter(_indices(target) for target in train).most_common(1)[0][0]
        common_label = Counter(i for target in train for i in _indices(target)).most_common(1)
        truth = self._matrix(targets)
        options = []
        for chosen in (common_set, tuple(index for index, _ in common_label)):
            shown = SEPARATOR.join(self.labels[i] for i in chosen) or "none"
            values = with_mean(multi_label_scores(truth, self._matrix([chosen] * len(targets))), self.metric)
            options.append(Baseline(f"majority ({shown})", values))
        return max(options, key=lambda option: option.values[self.metric.name])

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits have no unit."""
        return weight, bias

    def answers(self, logits: Logits) -> list[Any]:
        """The labels over the threshold, best first."""
        chosen = self._chosen(logits)
        order = np.argsort(-logits, axis=1, kind="stable")
        return [[self.labels[i] for i in order[row] if chosen[row, i]] for row in range(len(logits))]

    def constant_warning(self, logits: Logits) -> str | None:
        """Every row the same set."""
        chosen = self._chosen(logits)
        if len(logits) < 2 or (chosen != chosen[0]).any():
            return None
        names = [label for label, hit in zip(self.labels, chosen[0], strict=True) if hit]
        return f"every validation row is answered {names}: the adapter ignores the text"

    def _chosen(self, logits: Logits) -> Ints:
        return _over(_sigmoid(logits), 0.5 if self.threshold is None else self.threshold)

    def _matrix(self, targets: Sequence[Target]) -> Ints:
        matrix = np.zeros((len(targets), len(self.labels)), dtype=np.int64)
        for row, target in enumerate(targets):
            matrix[row, list(_indices(target))] = 1
        return matrix


def _sigmoid(logits: Logits) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits.astype(np.float64), -60, 60))))


def _over(probability: Floats, threshold: float) -> Ints:
    return (probability >= threshold).astype(np.int64)


def _indices(target: Target) -> tuple[int, ...]:
    if not isinstance(target, tuple):
        raise TypeError(f"a multi-label target is a tuple of indices, got {target!r}: this is a bug")
    return tuple(map(int, target))
