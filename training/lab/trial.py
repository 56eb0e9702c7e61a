"""What an arm did, kept so that a killed lab goes on; and whether one did worse than another for certain."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from modeling import HeadSpec
from training.metrics.paired import (
    Difference,
    Floats,
    Ints,
    paired_difference,
    paired_score_difference,
)
from training.tasks import Logits, Target, Task

_SAMPLES = 200
"""An F1 or a correlation is computed anew for each resample of the rows."""


@dataclass(frozen=True, eq=False)
class Trial:
    """`value` is the deciding metric of the held-out rows, `logits` what was found there, `loss` their mean
    loss; `work` and `seconds` are what it took. Where it `failed`, that says why, and there are no logits."""

    value: float
    loss: float
    logits: Logits
    higher_is_better: bool
    num_parameters: int
    file_bytes: int
    work: float
    seconds: float
    failed: str | None = None

    @property
    def rank(self) -> tuple[float, float] | None:
        if self.failed is not None or not math.isfinite(self.value):
            return None
        return (self.value if self.higher_is_better else -self.value), -self.loss

    def to_plain(self) -> dict[str, Any]:
        """For a journal: tensors and plain values."""
        return {**vars(self), "logits": torch.from_numpy(np.ascontiguousarray(self.logits))}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> "Trial":
        return cls(**{**stored, "logits": stored["logits"].numpy()})

    @classmethod
    def of_failure(cls, why: str, work: float, seconds: float) -> "Trial":
        nothing = np.empty((0, 0), np.float32)
        return cls(math.nan, math.nan, nothing, True, 0, 0, work, seconds, why)


@dataclass
class Judge:
    """Compares trials by the held-out rows' `targets`; what a trial scores is computed once."""

    task: Task
    spec: HeadSpec
    targets: list[Target]
    _rows: dict[Trial, Floats | None] = field(default_factory=dict)
    _losses: dict[Trial, Floats] = field(default_factory=dict)
    _scores: dict[Trial, Callable[[Ints], float]] = field(default_factory=dict)

    def difference(self, one: Trial, other: Trial) -> Difference:
        """The other's metric minus the one's, on the same rows."""
        values = self._row_values(one), self._row_values(other)
        if values[0] is not None and values[1] is not None:
            return paired_difference(values[0], values[1])
        scores = self._score(one), self._score(other)
        return paired_score_difference(scores[0], scores[1], len(self.targets), samples=_SAMPLES)

    def worse(self, one: Trial, other: Trial) -> bool:
        """Whether the other's metric is worse for certain."""
        found = self.difference(one, other)
        return found.holds and self._worse_by(found) > 0

    def worse_or_less_sure(self, one: Trial, other: Trial) -> bool:
        """`worse`, or its metric is lower and its loss higher for certain.

        The loss tells of every row how far it is from right, the metric of most rows nothing: where few are
        held out, it sees what the metric cannot.
        """
        found = self.difference(one, other)
        if found.holds or not self._worse_by(found) > 0:
            return found.holds and self._worse_by(found) > 0
        loss = paired_difference(self._row_losses(one), self._row_losses(other))
        return loss.holds and loss.mean > 0

    def _worse_by(self, found: Difference) -> float:
        """How much worse the second is, by the metric."""
        return -found.mean if self.task.metric.higher_is_better else found.mean

    def error(self, trial: Trial) -> float:
        """The standard error of its metric; NaN where some resamples leave it undefined."""
        rows = self._row_values(trial)
        if rows is not None:
            return float(rows.std(ddof=1) / len(rows) ** 0.5) if len(rows) > 1 else math.nan
        random, score = np.random.default_rng(0), self._score(trial)
        num_rows = len(self.targets)
        return float(np.std([score(random.integers(0, num_rows, num_rows)) for _ in range(_SAMPLES)], ddof=1))

    def _row_values(self, trial: Trial) -> Floats | None:
        if trial not in self._rows:
            self._rows[trial] = self._known(trial).row_values(trial.logits, self.targets)
        return self._rows[trial]

    def _row_losses(self, trial: Trial) -> Floats:
        if trial not in self._losses:
            judged = self._known(trial).judged(self.spec, trial.logits, self.targets)
            self._losses[trial] = np.asarray(judged.loss, dtype=np.float64)
        return self._losses[trial]

    def _score(self, trial: Trial) -> Callable[[Ints], float]:
        """The metric of some rows; the resamples of every comparison are the same."""
        if trial in self._scores:
            return self._scores[trial]
        compute = self._known(trial).scorer(trial.logits, self.targets)
        kept: dict[bytes, float] = {}

        def score(rows: Ints) -> float:
            key = rows.tobytes()
            if key not in kept:
                kept[key] = compute(rows)
            return kept[key]

        self._scores[trial] = score

        return score

    def _known(self, trial: Trial) -> Task:
        """With what is chosen on the held-out rows, as the run itself chooses it."""
        return self.task.calibrated(trial.logits, self.targets)
