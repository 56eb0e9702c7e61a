"""The kinds of task, one file each; `build_task` is the only place that lists them."""

from collections.abc import Sequence

from training.metrics import Metric, positive_class
from training.tasks.base import Baseline, Logits, Target, TargetError, Task
from training.tasks.free_text import FreeText
from training.tasks.multi_label import MultiLabel
from training.tasks.multiple_choice import MultipleChoice
from training.tasks.regression import Regression
from training.tasks.single_label import SingleLabel
from training.tasks.text_to_text import TextToText

__all__ = [
    "FREE_TEXT",
    "Baseline",
    "FreeText",
    "Logits",
    "Target",
    "TargetError",
    "Task",
    "TextToText",
    "build_task",
    "head_kind",
]

FREE_TEXT = "free_text"
"""The kind of data whose labels are texts; they have no head, and no list of label strings either."""

_HEAD_KINDS = {
    "single_sentence": "single_label",
    "sentence_pair": "single_label",
    "multi_label": "multi_label",
    "regression": "regression",
    "multiple_choice": "multiple_choice",
    FREE_TEXT: FREE_TEXT,
}


def head_kind(kind: str) -> str:
    """The head's kind for a data kind: single texts and pairs with one label share a head."""
    return _HEAD_KINDS[kind]


def build_task(
    kind: str,
    labels: Sequence[str],
    metric: Metric,
    metric_text: str | None = None,
    *,
    threshold: float | None = None,
    value_range: tuple[float, float] | None = None,
) -> Task:
    """The task of a head kind. `metric_text` may name the class whose F1 is shown.

    For a multiple choice `labels` name its places. `threshold` (multi-label) and `value_range` (regression)
    are known for a trained head only. A text-to-text task is a TextToText around one of these.
    """
    names = tuple(labels)
    if kind == "multi_label":
        return MultiLabel(names, metric, 0.5 if threshold is None else threshold)
    if kind == "regression":
        return Regression(names, metric, value_range=value_range)
    if kind == "multiple_choice":
        return MultipleChoice(names, metric)
    if kind == FREE_TEXT:
        return FreeText(metric)
    positive = (
        names.index(metric.positive) if metric.positive in names else positive_class(metric_text, names)
    )
    return SingleLabel(names, metric, positive)
