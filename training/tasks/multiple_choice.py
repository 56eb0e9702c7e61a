"""One right answer among K texts that the row itself brings: COPA and its like."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.metrics import Metric
from training.tasks.base import Baseline, Logits, Target, Task
from training.tasks.single_label import index_of, parse_label

SCORE = "choice"
"""The one output of the head: how well a choice fits its text."""


@dataclass(frozen=True)
class MultipleChoice:
    """Softmax over the scores of a row's K pairs (text, choice); `class_names` name the places 0 to K-1."""

    class_names: tuple[str, ...]
    metric: Metric
    labels: tuple[str, ...] = (SCORE,)
    kind: str = "multiple_choice"
    threshold: float | None = None
    value_range: tuple[float, float] | None = None

    def parse(self, value: Any) -> int:
        """The place of the right choice, or its name."""
        return parse_label(value, self.class_names)

    def stratum(self, target: Target) -> Hashable:
        """The place."""
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
        """Accuracy of the best of K scores [N, K]; NaN when one is not finite."""
        right = logits.argmax(axis=1) == np.asarray(targets, dtype=np.int64)
        return {"accuracy": float(right.mean()) if np.isfinite(logits).all() else float("nan")}

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest place of the train rows for every row."""
        majority = index_of(Counter(train).most_common(1)[0][0])
        share = float((np.asarray(targets, dtype=np.int64) == majority).mean())
        return Baseline(f"majority ({self.class_names[majority]})", {"accuracy": share})

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores have no unit."""
        return weight, bias

    def answers(self, logits: Logits) -> list[Any]:
        """The name of the best place of each row."""
        return [self.class_names[index] for index in logits.argmax(axis=1)]

    def constant_warning(self, logits: Logits) -> str | None:
        """Every row the same place."""
        chosen = set(logits.argmax(axis=1).tolist())
        if len(logits) < 2 or len(chosen) > 1:
            return None
        name = self.class_names[chosen.pop()]
        return f"every validation row is answered {name!r}: the adapter ignores the text"
