"""One number per text or pair. Training sees standardised targets; the file answers in the data's units."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.formats import Formatter
from training.metrics.scores import REGRESSION, Floats, Metric, scores_of
from training.rows.canonical import Occurrence, TargetError
from training.rows.examples import Target, WordSpans
from training.rows.labels import Labels
from training.rows.split import bins_of
from training.tasks.as_strings import AsStrings
from training.tasks.base import Baseline, DataKinds, Logits, Task, register
from training.tasks.judged import Judged

if TYPE_CHECKING:
    import torch

    from modeling import HeadSpec

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Of text: Python would also take `1_000`, other digits than ASCII's and words."""


@register
@dataclass(frozen=True)
class Regression(Task):
    """`mean` and `spread` of the train targets standardise the loss; `value_range` clamps answers."""

    mean: float = 0.0
    spread: float = 1.0
    value_range: tuple[float, float] | None = None

    kind = "regression"
    data_kinds: ClassVar[DataKinds] = {"regression": (1, 2)}
    measures = REGRESSION
    least_names = 0

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        if spec is None or spec.low is None or spec.high is None:
            return cls(names[:1], metric)
        return cls(names[:1], metric, value_range=(spec.low, spec.high))

    @classmethod
    def read_labels(
        cls, found: Sequence[Occurrence], names: Sequence[str] | None, field: str, *, places: bool = True
    ) -> tuple[Labels, list[str]]:
        """The number is called like its field."""
        return Labels(tuple(names or (field,)), {}), []

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    def parse(self, value: Any, labels: Labels) -> float:
        """A finite number, also written as text."""
        return parse_number(value, "a regression label")

    def strata(self, targets: Sequence[Target], fraction: float = 0.1) -> list[tuple[int, ...]]:
        """Bins by rank, so that a drawn split spans the range."""
        return [(place,) for place in bins_of(list(map(_number, targets)), fraction)]

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Float32 [N], standardised."""
        import torch

        values = (self._array(targets) - self.mean) / self.spread
        return torch.from_numpy(values).float()

    def as_text(self, formatter: Formatter) -> Task:
        """Classes in even steps, where the format fixes them."""
        scale = formatter.scale
        return AsStrings(() if scale is None else scale.strings, self.metric, self, scale)

    def fitted(self, targets: Sequence[Target]) -> "Regression":
        """Mean, spread and range of the train targets."""
        values = self._array(targets)
        return replace(
            self,
            mean=float(values.mean()),
            spread=float(values.std()) or 1.0,
            value_range=(float(values.min()), float(values.max())),
        )

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Both correlations, their mean, and errors in the data's unit, of the clamped answers."""
        values = self._clamped(logits)
        return self.metric.with_mean(scores_of(REGRESSION, self._array(targets), values))

    def row_values(self, logits: Logits, targets: Sequence[Target]) -> Floats | None:
        return np.abs(self._clamped(logits) - self._array(targets)) if self.metric.name == "mae" else None

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        """The loss of a row is how far off its number is."""
        wanted, told = self._array(targets), self._clamped(logits)
        numbers = (wanted.tolist(), told.tolist())
        return Judged((), *numbers, np.abs(told - wanted), numbers=(wanted, told))

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The mean of the train targets for every row; a constant has no correlation, so only errors."""
        mean = float(self._array(train).mean())
        truth = self._array(targets)
        values = scores_of(REGRESSION, truth, np.full_like(truth, mean))
        return Baseline(f"mean ({mean:.3g})", {k: v for k, v in values.items() if math.isfinite(v)})

    def to_units(self, weight: "torch.Tensor", bias: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        """Undo the standardisation inside the head: y = spread * (w x + b) + mean."""
        return weight * self.spread, bias * self.spread + self.mean

    def in_units(self, logits: Logits) -> Logits:
        return np.asarray(logits * self.spread + self.mean, dtype=np.float32)

    def spec(self, pooling: str) -> "HeadSpec":
        from modeling import HeadSpec

        low, high = self.value_range or (None, None)
        return HeadSpec(self.kind, self.labels, pooling, low=low, high=high)

    def told(self, target: Target) -> Target:
        return target

    def constant_warning(self, logits: Logits) -> str | None:
        """The answers hardly move compared with the targets."""
        if len(logits) < 2 or float(logits.std()) > 1e-3 * self.spread:
            return None
        return (
            f"every validation row is answered about {float(logits.mean()):.3g}: the adapter ignores the text"
        )

    def _clamped(self, logits: Logits) -> Floats:
        """The numbers [N] that are answered."""
        from modeling.kinds.regression import clamped

        return clamped(logits.astype(np.float64), *(self.value_range or (None, None)))

    def _array(self, targets: Sequence[Target]) -> Floats:
        return np.asarray([_number(target) for target in targets], dtype=np.float64)


def parse_number(value: Any, what: str) -> float:
    """A finite number, also written as text. Raises TargetError, which says what it is to be."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise TargetError(f"{value!r} ({type(value).__name__})"[:120], f"{what} is a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        comma = " with a point, not a comma" if "," in str(value) else ""
        raise TargetError(f"{value!r}"[:120], f"{what} is a number{comma}")
    number = float(value)
    if not math.isfinite(number):
        raise TargetError(f"{number}", f"{what} is a finite number; correct or remove the row")
    return number


def _number(target: Target) -> float:
    if isinstance(target, tuple | WordSpans):
        raise TypeError(f"a regression target is a number, got {target!r}: this is a bug")
    return float(target)
