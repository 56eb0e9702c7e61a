"""What a run tells when it is over: numbers, where they came from, what to be careful about. No work."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from modeling import Adapter
from training.loop.fit import EpochRecord, Evaluation, StageResult
from training.tasks import Baseline


@dataclass(frozen=True)
class SeedOutcome:
    """One seed: its adapter in its best state, and what each stage reached (None = it was left out)."""

    seed: int
    adapter: Adapter
    head: StageResult | None
    body: StageResult | None

    @property
    def final(self) -> Evaluation:
        """The evaluation of the state that goes into the file."""
        last = self.body or self.head
        assert last is not None, "a run without any stage is refused at the start: this is a bug"
        return last.best

    @property
    def history(self) -> tuple[EpochRecord, ...]:
        """Both stages, in order."""
        return tuple(r for stage in (self.head, self.body) if stage is not None for r in stage.history)


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
    """A finished run. `metrics` are on the validation rows, `head_metrics` those after stage one."""

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
    data: Mapping[str, Any]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float = 0.0
    file: Announced | None = None

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
        skipped = {"evaluation", "history", "baseline", "file"}  # left out, or below
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
