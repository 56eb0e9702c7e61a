"""What one kind of task knows: how its labels look in a file, what its loss is, how it is scored.

One file per kind beside this one; the recipe meets tasks only through `Task`. Targets are what `parse`
returns: a class index, a tuple of class indices, a number, or a tuple of texts that are right answers.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from training.metrics import Metric

Target = int | float | tuple[int, ...] | tuple[str, ...]
Logits = npt.NDArray[np.float32]


class TargetError(ValueError):
    """A label in the file is not one of this task. `found` says what was there, `remedy` what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"found {found}; {remedy}")
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True)
class Baseline:
    """What an answer without reading the text scores. Undefined metrics are left out."""

    name: str
    values: Mapping[str, float]


class Task(Protocol):
    """One kind of task with its labels; immutable."""

    @property
    def kind(self) -> str:
        """The head's kind: single_label, multi_label, regression, multiple_choice or text_to_text."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names in the order of the head's outputs; one name for a regression and for a multiple choice."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What a class index of a target means; nothing where targets are numbers."""

    @property
    def metric(self) -> Metric:
        """The metric that decides."""

    @property
    def threshold(self) -> float | None:
        """Multi-label only: a label is answered from this probability on."""

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Regression only: answers are clamped to it."""

    def parse(self, value: Any) -> Target:
        """One label as it stands in the file. Raises TargetError."""

    def stratum(self, target: Target) -> Hashable:
        """Rows with equal strata are shared out evenly when a split is drawn."""

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Targets as the loss wants them: int64 [N], float32 [N, L] or float32 [N]."""

    def fitted(self, targets: Sequence[Target]) -> "Task":
        """The same task with what it has to learn from the train targets (mean, spread, range)."""

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> "Task":
        """The same task with what is chosen on validation (the threshold). Logits [N, L] in data units."""

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """All metrics. Logits [N, L] in the data's units; of free text, the scores of its rows."""

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The score of the majority (or mean) of `train` on `targets`."""

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Head [L, H], [L] as trained -> the head whose logits are in the data's units."""

    def answers(self, logits: Logits) -> list[Any]:
        """What a reader would be told per row: a label, a list of labels, or a number."""

    def constant_warning(self, logits: Logits) -> str | None:
        """A sentence when every row gets the same answer."""
