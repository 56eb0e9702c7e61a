"""One number per text or pair. Training sees standardised targets; the file answers in the data's units."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from training.metrics import Floats, Metric, regression_scores, with_mean
from training.tasks.base import Baseline, Logits, Target, TargetError, Task

_BINS = 8


@dataclass(frozen=True)
class Regression:
    """`mean` and `spread` of the train targets standardise the loss; `value_range` clamps answers."""

    labels: tuple[str, ...]
    metric: Metric
    mean: float = 0.0
    spread: float = 1.0
    value_range: tuple[float, float] | None = None
    kind: str = "regression"
    threshold: float | None = None
    class_names: tuple[str, ...] = ()

    def parse(self, value: Any) -> float:
        """A finite number, also written as text."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TargetError(f"{value!r} ({type(value).__name__})"[:120], "a regression label is a number")
        try:
            number = float(value)
        except ValueError:
            raise TargetError(f"{value!r}"[:120], "a regression label is a number") from None
        if not math.isfinite(number):
            raise TargetError(f"{number}", "a regression label is a finite number; correct or remove the row")
        return number

    def stratum(self, target: Target) -> Hashable:
        """An eighth of the range, so that a drawn split spans it."""
        if self.value_range is None:
            return 0
        low, high = self.value_range
        share = (_number(target) - low) / (high - low) if high > low else 0.0
        return min(int(share * _BINS), _BINS - 1)

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Float32 [N], standardised."""
        values = (self._array(targets) - self.mean) / self.spread
        return torch.from_numpy(values).float()

    def fitted(self, targets: Sequence[Target]) -> Task:
        """Mean, spread and range of the train targets."""
        values = self._array(targets)
        spread = float(values.std()) or 1.0
        return replace(
            self,
            mean=float(values.mean()),
            spread=spread,
            value_range=(float(values.min()), float(values.max())),
        )

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> Task:
        """Nothing is chosen on validation."""
        del logits, targets
        return self

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Both correlations, their mean, and errors in the data's unit, of the clamped answers."""
        return with_mean(regression_scores(self._array(targets), self._clamped(logits)), self.metric)

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The mean of the train targets for every row; a constant has no correlation, so only errors."""
        mean = float(self._array(train).mean())
        truth = self._array(targets)
        values = regression_scores(truth, np.full_like(truth, mean))
        return Baseline(f"mean ({mean:.3g})", {k: v for k, v in values.items() if math.isfinite(v)})

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Undo the standardisation inside the head: y = spread * (w x + b) + mean."""
        return weight * self.spread, bias * self.spread + self.mean

    def answers(self, logits: Logits) -> list[Any]:
        """The clamped number of each row."""
        return [float(value) for value in self._clamped(logits)]

    def constant_warning(self, logits: Logits) -> str | None:
        """The answers hardly move compared with the targets."""
        if len(logits) < 2 or float(logits.std()) > 1e-3 * self.spread:
            return None
        return (
            f"every validation row is answered about {float(logits.mean()):.3g}: the adapter ignores the text"
        )

    def _clamped(self, logits: Logits) -> Floats:
        values = logits[:, 0].astype(np.float64)
        return values if self.value_range is None else np.clip(values, *self.value_range)

    def _array(self, targets: Sequence[Target]) -> Floats:
        return np.asarray([_number(target) for target in targets], dtype=np.float64)


def _number(target: Target) -> float:
    if isinstance(target, tuple):
        raise TypeError(f"a regression target is a number, got {target!r}: this is a bug")
    return float(target)
