"""Labels as strings that a decoder would write: classes, or numbers in even steps (STS-B).

A row is answered with the most probable of its label strings, so every answer is a label; what free
generation would write is measured by `trunkline evaluate --generate` alone.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from training.formats import Scale, scale_for
from training.metrics import Floats, Metric
from training.tasks.base import Baseline, Logits, Target, Task


@dataclass(frozen=True)
class TextToText:
    """`inner` is the data's own task (one label, or a number), `labels` are the strings that stand for it.

    Logits [N, L] are the log probabilities of the strings. `scale` turns numbers into classes; a regression
    gets one with `fitted` when its format does not fix it.
    """

    inner: Task
    labels: tuple[str, ...]
    scale: Scale | None = None
    kind: str = "text_to_text"
    threshold: float | None = None
    value_range: tuple[float, float] | None = None

    @property
    def metric(self) -> Metric:
        """The metric of the data's own task."""
        return self.inner.metric

    @property
    def class_names(self) -> tuple[str, ...]:
        """The strings, where a target is one of them; nothing for numbers."""
        return () if self._is_number else self.labels

    def parse(self, value: Any) -> Target:
        """A label or a number, as in the data."""
        return self.inner.parse(value)

    def stratum(self, target: Target) -> Hashable:
        """As in the data's own task."""
        return self.inner.stratum(target)

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Int64 [N]: which string is right; of a number, the nearest one."""
        return torch.tensor([self.string_index(target) for target in targets], dtype=torch.int64)

    def strings(self, targets: Sequence[Target]) -> list[str]:
        """The string that is right in each row."""
        return [self.labels[self.string_index(target)] for target in targets]

    def string_index(self, target: Target) -> int:
        """The string that stands for a target."""
        if isinstance(target, tuple):
            raise TypeError(f"a text-to-text target is one label, got {target!r}: this is a bug")
        return int(target) if self.scale is None else self.scale.index(float(target))

    def fitted(self, targets: Sequence[Target]) -> Task:
        """Numbers: classes over the range of the train targets, unless the format fixed them."""
        inner = self.inner.fitted(targets)
        if not self._is_number:
            return replace(self, inner=inner)
        low, high = inner.value_range or (0.0, 1.0)
        scale = self.scale or scale_for(low, high)
        return replace(self, inner=inner, scale=scale, labels=scale.strings)

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> Task:
        """Nothing is chosen on validation."""
        del logits, targets
        return self

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """The metrics of the data's own task. An undefined correlation is 0, as in the paper's code."""
        if not self._is_number:
            return self.inner.scores(logits, targets)
        values = self.inner.scores(self._numbers(logits), targets)
        if not np.isfinite(logits).all():
            return dict.fromkeys(values, math.nan)
        return {name: value if math.isfinite(value) else 0.0 for name, value in values.items()}

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """Of the data's own task."""
        return self.inner.baseline(train, targets)

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """There is no head."""
        raise TypeError("a text-to-text task has no head: this is a bug")

    def answers(self, logits: Logits) -> list[Any]:
        """The best string of each row."""
        return [self.labels[index] for index in logits.argmax(axis=1)]

    def constant_warning(self, logits: Logits) -> str | None:
        """Every row the same string."""
        chosen = set(logits.argmax(axis=1).tolist())
        if len(logits) < 2 or len(chosen) > 1:
            return None
        return f"every validation row is answered {self.labels[chosen.pop()]!r}: the adapter ignores the text"

    @property
    def _is_number(self) -> bool:
        return self.inner.kind == "regression"

    def _numbers(self, logits: Logits) -> Logits:
        """[N, L] -> [N, 1]: the number that the best string means."""
        scale = self.scale
        assert scale is not None, "a regression is fitted before it is scored: this is a bug"
        values: Floats = np.asarray(scale.values)[logits.argmax(axis=1)]
        return values[:, None].astype(np.float32)
