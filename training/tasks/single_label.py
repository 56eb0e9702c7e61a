"""One label out of several: single texts and pairs alike."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.metrics import Metric, single_label_scores, with_mean
from training.tasks.base import Baseline, Logits, Target, TargetError, Task


@dataclass(frozen=True)
class SingleLabel:
    """Softmax over `labels`; `positive` is the class whose F1 is shown."""

    labels: tuple[str, ...]
    metric: Metric
    positive: int | None = None
    kind: str = "single_label"
    threshold: float | None = None
    value_range: tuple[float, float] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    def parse(self, value: Any) -> int:
        """A label name, or an index into the label names."""
        return parse_label(value, self.labels)

    def stratum(self, target: Target) -> Hashable:
        """The class."""
        return target

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Int64 [N]."""
        return torch.tensor(list(targets), dtype=torch.int64)

    def fitted(self, targets: Sequence[Target]) -> Task:
        """Nothing to learn from the train targets."""
        del targets
        return self

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> Task:
        """Nothing is chosen on validation."""
        del logits, targets
        return self

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Accuracy, macro-F1, Matthews, F1 of the positive class; NaN when a logit is not finite."""
        truth = np.asarray(targets, dtype=np.int64)
        values = with_mean(single_label_scores(truth, logits.argmax(axis=1), self.positive), self.metric)
        return values if np.isfinite(logits).all() else dict.fromkeys(values, float("nan"))

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest class of the train rows for every row."""
        majority = Counter(train).most_common(1)[0][0]
        truth = np.asarray(targets, dtype=np.int64)
        predicted = np.full_like(truth, int(index_of(majority)))
        name = f"majority ({self.labels[index_of(majority)]})"
        return Baseline(name, with_mean(single_label_scores(truth, predicted, self.positive), self.metric))

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits have no unit."""
        return weight, bias

    def answers(self, logits: Logits) -> list[Any]:
        """The best label of each row."""
        return [self.labels[index] for index in logits.argmax(axis=1)]

    def constant_warning(self, logits: Logits) -> str | None:
        """Every row the same class."""
        chosen = set(logits.argmax(axis=1).tolist())
        if len(logits) < 2 or len(chosen) > 1:
            return None
        return f"every validation row is answered {self.labels[chosen.pop()]!r}: the adapter ignores the text"


def parse_label(value: Any, labels: tuple[str, ...]) -> int:
    """Index of one label given by name or by index (also as digits, as CSV has it).

    Raises:
        TargetError: neither a known name nor an index in range.
    """
    if isinstance(value, bool):
        return _by_name(str(value), labels) if str(value) in labels else _by_name(str(value).lower(), labels)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return _by_index(value, labels)
    if not isinstance(value, str):
        raise TargetError(_shown(value), "a label is a name or a whole number")
    name = value.strip()
    if name in labels or not _is_index(name):
        return _by_name(name, labels)
    return _by_index(int(name), labels)


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _by_name(name: str, labels: tuple[str, ...]) -> int:
    if name not in labels:
        raise TargetError(
            f"label {name[:80]!r}", f"allowed: {_some(labels)}; correct the row or the label names"
        )
    return labels.index(name)


def _by_index(index: int, labels: tuple[str, ...]) -> int:
    if not 0 <= index < len(labels):
        raise TargetError(
            f"label {index}", f"allowed: 0 to {len(labels) - 1}, one per label name; correct either"
        )
    return index


def _some(labels: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name) for name in labels[:8])
    return shown if len(labels) <= 8 else f"{shown} and {len(labels) - 8} more"


def _shown(value: Any) -> str:
    return f"{value!r} ({type(value).__name__})"[:120]


def index_of(target: Target) -> int:
    """The class index that a target is."""
    if not isinstance(target, int):
        raise TypeError(f"a single-label target is an index, got {target!r}: this is a bug")
    return target
