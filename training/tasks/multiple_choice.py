"""One right answer among K texts that the row itself brings: COPA and its like."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.metrics.scores import MULTIPLE_CHOICE, Floats, Metric
from training.rows.canonical import TargetError
from training.rows.examples import Target
from training.rows.labels import Labels
from training.tasks.base import Baseline, DataKinds, Logits, Task, commonest, register
from training.tasks.single_label import SingleLabel, index_of

if TYPE_CHECKING:
    from modeling import HeadSpec

_CHOICE_LABEL = "choice"  # as in modeling.kinds.multiple_choice


@register
@dataclass(frozen=True)
class MultipleChoice(Task):
    """Softmax over the scores of a row's K pairs (text, choice); `places` name the places 0 to K-1."""

    places: tuple[str, ...] = ()

    kind = "multiple_choice"
    data_kinds: ClassVar[DataKinds] = {"multiple_choice": (1, 2, 3)}
    measures = MULTIPLE_CHOICE
    lists_choices = True

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        return cls((_CHOICE_LABEL,), metric, names)

    @classmethod
    def in_text(cls) -> type[Task]:
        """A decoder chooses among label strings."""
        return SingleLabel

    def parse(self, value: Any, labels: Labels) -> int:
        """The place of the right choice, or its name."""
        try:
            return labels.index(value)
        except TargetError as error:
            remedy = f"{error.remedy} (the place of the right choice in the row, from 0)"
            raise TargetError(error.found, remedy) from None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.places

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Accuracy of the best of K scores [N, K]; NaN when one is not finite."""
        right = logits.argmax(axis=1) == np.asarray(targets, dtype=np.int64)
        return {"accuracy": float(right.mean()) if np.isfinite(logits).all() else float("nan")}

    def row_values(self, logits: Logits, targets: Sequence[Target]) -> Floats:
        right: Floats = (logits.argmax(axis=1) == np.asarray(targets, dtype=np.int64)).astype(np.float64)
        return right

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest place of the train rows for every row."""
        majority = index_of(commonest(train))
        share = float((np.asarray(targets, dtype=np.int64) == majority).mean())
        return Baseline(f"majority ({self.places[majority]})", {"accuracy": share})

    def told(self, target: Target) -> str:
        """The number of the choice: its text is the row's own."""
        return str(target)
