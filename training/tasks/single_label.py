"""One label out of several: single texts and pairs alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from modeling import HeadSpec
from training.formats import Formatter
from training.metrics.scores import SINGLE_LABEL, Metric, positive_class, single_label_scores
from training.rows.examples import Target
from training.tasks.as_strings import AsStrings
from training.tasks.base import Baseline, DataKinds, Logits, TargetError, Task, commonest, register


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
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: HeadSpec | None = None
    ) -> Self:
        named = names.index(metric.positive) if metric.positive in names else positive_class(text, names)
        return cls(names, metric, named)

    def parse(self, value: Any) -> int:
        """A label name, or an index into the label names."""
        return parse_label(value, self.labels)

    def as_text(self, formatter: Formatter) -> Task:
        return AsStrings(formatter.label_strings(self.labels), self.metric, self)

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Of the best label of each row; NaN when a logit is not finite."""
        values = self._scores(logits.argmax(axis=1), targets)
        return values if np.isfinite(logits).all() else dict.fromkeys(values, float("nan"))

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest class of the train rows for every row."""
        majority = index_of(commonest(train))
        predicted = np.full(len(targets), majority, dtype=np.int64)
        return Baseline(f"majority ({self.labels[majority]})", self._scores(predicted, targets))

    def _scores(self, predicted: np.ndarray[Any, Any], targets: Sequence[Target]) -> dict[str, float]:
        truth = np.asarray(targets, dtype=np.int64)
        return self.metric.with_mean(single_label_scores(truth, predicted, self.positive))


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
        raise TargetError(f"{value!r} ({type(value).__name__})"[:120], "a label is a name or a whole number")
    name = value.strip()
    if name in labels or not (name.isascii() and name.isdigit() and len(name) < 10):
        return _by_name(name, labels)
    return _by_index(int(name), labels)


def _by_name(name: str, labels: tuple[str, ...]) -> int:
    if name in labels:
        return labels.index(name)
    shown = ", ".join(repr(label) for label in labels[:8])
    shown = shown if len(labels) <= 8 else f"{shown} and {len(labels) - 8} more"
    raise TargetError(f"label {name[:80]!r}", f"allowed: {shown}; correct the row or the label names")


def _by_index(index: int, labels: tuple[str, ...]) -> int:
    if 0 <= index < len(labels):
        return index
    raise TargetError(
        f"label {index}", f"allowed: 0 to {len(labels) - 1}, one per label name; correct either"
    )


def index_of(target: Target) -> int:
    if not isinstance(target, int):
        raise TypeError(f"a single-label target is an index, got {target!r}: this is a bug")
    return target
