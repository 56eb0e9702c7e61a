"""What a run tells when it is over: numbers, where they came from, what to be careful about. No work."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling import Adapter
from training.loop.fit import EpochRecord, Evaluation, StageResult
from training.loop.fitted import HeadFit
from training.loop.stages import Features
from training.report.calibrate import Calibration
from training.report.leaderboard import Leaderboard
from training.tasks import Baseline


@dataclass(frozen=True)
class SeedOutcome:
    """One seed: its adapter in the state that is kept, and what each stage reached (None = it was left out).

    `chosen` is the evaluation of what is kept; with `on_all_rows` it is that of the same run without the
    held-out rows, which the adapter has learnt from since. `fitted` is the head on the frozen backbone,
    `again` and `fitted_again` the one on what the adapter gives (`adapted`), where that is what is kept.
    """

    seed: int
    adapter: Adapter
    head: StageResult | None
    body: StageResult | None
    chosen: Evaluation
    fitted: HeadFit | None = None
    again: StageResult | None = None
    fitted_again: HeadFit | None = None
    adapted: Features | None = None
    on_all_rows: bool = False

    @property
    def final(self) -> Evaluation:
        """The evaluation of what goes into the file."""
        return self.chosen

    @property
    def out_of_fold(self) -> npt.NDArray[np.float32] | None:
        """Logits [N, L] of the train rows in data units, each by a head that has not seen its row."""
        if self.fitted is None or self.fitted.out_of_fold is None:
            return None
        return self.final.task.in_units(self.fitted.out_of_fold.numpy()).astype(np.float32)

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """All stages, in order."""
        stages = (self.head, self.body, self.again)
        return tuple(r for stage in stages if stage is not None for r in stage.history)


def pick_best(outcomes: Sequence[SeedOutcome]) -> SeedOutcome:
    """The seed with the best validation metric, the first among equals."""
    best = outcomes[0]
    for outcome in outcomes[1:]:
        if best.final.task.metric.better(outcome.final.value, best.final.value):
            best = outcome
    return best


@dataclass(frozen=True)
class Announced:
    """The written file, after it was loaded again in a fresh process and its probes agreed."""

    path: str
    digest: str
    size_bytes: int
    num_probes: int
    max_probe_difference: float


@dataclass(frozen=True)
class TrainResult:
    """A finished run. `metrics` are on the validation rows, `head_metrics` those after stage one.

    `out_of_fold` are logits [N, L] of the train rows, in data units, each by a head that has not seen its
    row; None where no such head was trained. `leaderboard` is what was tried, where the method was searched.
    """

    task: str
    method: str
    method_config: Mapping[str, Any]
    backbone: str
    kind: str
    labels: tuple[str, ...]
    metric: str
    higher_is_better: bool
    metrics: Mapping[str, float]
    head_metrics: Mapping[str, float] | None
    baseline: Baseline
    num_train: int
    num_validation: int
    num_body_parameters: int
    num_head_parameters: int
    num_backbone_parameters: int
    seed: int
    seed_values: Mapping[int, float]
    best_epoch: int
    hyper: Mapping[str, Any]
    history: tuple[EpochRecord, ...]
    evaluation: Evaluation
    calibration: Calibration
    data: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    on_all_rows: bool = False
    seconds: float = 0.0
    file: Announced | None = None
    out_of_fold: npt.NDArray[np.float32] | None = None
    leaderboard: Leaderboard | None = None

    @property
    def value(self) -> float:
        return self.metrics[self.metric]

    @property
    def body_share(self) -> float:
        """Adapter parameters (without the head) over backbone parameters."""
        return self.num_body_parameters / self.num_backbone_parameters

    @property
    def spread(self) -> tuple[float, float]:
        """Mean and standard deviation of the deciding metric over the seeds."""
        values = list(self.seed_values.values())
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without logits."""
        skipped = {"evaluation", "history", "baseline", "file", "out_of_fold"}  # left out, or below
        own = {k: plain(v) for k, v in vars(self).items() if k not in skipped}
        mean, deviation = self.spread
        return {
            **own,
            "value": self.value,
            "body_share": self.body_share,
            "seeds": {"mean": mean, "standard_deviation": deviation, "values": plain(self.seed_values)},
            "baseline": {"name": self.baseline.name, **self.baseline.values},
            "file": plain(self.file),
            "history": plain(self.history),
        }


def plain(value: Any) -> Any:
    """A value as JSON can hold it: records as objects, tuples as lists, what is no number as null."""
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    return value
