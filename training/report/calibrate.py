"""What is fitted on held-out rows once training is over: a temperature, and from which score on to answer.

Which kinds have them is said by the kind (`Kind.options`). A temperature moves no label of any row.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modeling import Abstention, HeadSpec, kind_of
from training.errors import ConfigError
from training.metrics.calibration import FEWEST_ROWS, calibration_error, choose_threshold, fit_temperature
from training.tasks import Logits, Target, Task
from training.tasks.judged import Judged


@dataclass(frozen=True)
class Quality:
    """How far scores are from being probabilities, and what answers cost; both are nought at best."""

    calibration_error: float
    log_loss: float

    @classmethod
    def of(cls, judged: Judged) -> "Quality | None":
        """None where there are no scores."""
        if judged.confidence is None:
            return None
        return cls(calibration_error(judged.confidence), float(judged.loss.mean()))


@dataclass(frozen=True)
class Calibration:
    """What was found on `rows` held-out rows, with the scores' quality `before` and `after`.

    `temperature` is None where it stays at 1: `note` says why.
    """

    rows: int
    temperature: float | None = None
    before: Quality | None = None
    after: Quality | None = None
    abstain: Abstention | None = None
    note: str | None = None

    def applied(self, spec: HeadSpec) -> HeadSpec:
        """A spec with what was found: a threshold of probabilities moves with them, so no label changes."""
        threshold = spec.threshold
        if threshold is not None:
            threshold = _moved(threshold, (spec.temperature or 1.0) / (self.temperature or 1.0))
        return replace(spec, temperature=self.temperature, threshold=threshold, abstain=self.abstain)

    def told(self) -> Iterator[str]:
        """Sentences for a person."""
        if self.note is not None:
            yield self.note
        if self.temperature is not None and self.before is not None and self.after is not None:
            yield (
                f"scores are calibrated with a temperature of {self.temperature:.3g} on {self.rows:,} "
                f"held-out rows: log loss {self.before.log_loss:.4f} before and {self.after.log_loss:.4f} "
                f"after, expected calibration error {self.before.calibration_error:.4f} and "
                f"{self.after.calibration_error:.4f}"
            )
        if self.abstain is not None:
            yield _abstention_told(self.abstain)


@dataclass(frozen=True)
class Answering:
    """What a file does on rows: its scores' quality without and with its temperature, and what it withholds.

    `coverage` is the share of rows that are answered, `error` the share of those that are wrong (None: none
    was answered); both None for a file that withholds nothing.
    """

    temperature: float | None
    before: Quality | None
    after: Quality | None
    threshold: float | None = None
    coverage: float | None = None
    error: float | None = None


def calibrate(
    task: Task, logits: Logits, targets: Sequence[Target], target_error: float | None = None
) -> Calibration:
    """Of held-out rows: logits [N, L] in data units. With `target_error` a threshold is chosen, too."""
    found, spec = Calibration(len(targets)), task.spec("none")
    if not _can_have("temperature", task):
        return found
    bare = found.applied(spec)
    before = Quality.of(task.judged(bare, logits, targets))
    temperature, note = _temperature(task, bare, logits, targets)
    found = Calibration(len(targets), temperature, before, before, note=note)
    judged = task.judged(found.applied(spec), logits, targets)
    found = replace(found, after=Quality.of(judged))
    return found if target_error is None else replace(found, abstain=_abstention(judged, target_error))


def answering(task: Task, spec: HeadSpec, logits: Logits, targets: Sequence[Target]) -> Answering:
    """What a file of this spec does on rows; of a kind without probabilities nothing is said."""
    if not _can_have("temperature", task):
        return Answering(None, None, None)
    judged = task.judged(spec, logits, targets)
    before = Quality.of(task.judged(Calibration(0).applied(spec), logits, targets))
    found = Answering(spec.temperature, before, Quality.of(judged))
    if spec.abstain is None or judged.sure is None or judged.right is None:
        return found
    answered = judged.sure >= spec.abstain.threshold
    error = float(1 - judged.right[answered].mean()) if answered.any() else None
    return replace(found, threshold=spec.abstain.threshold, coverage=float(answered.mean()), error=error)


def check_abstain(target_error: float | None, task: Task) -> None:
    """Raises ConfigError where no answer can be withheld."""
    if target_error is not None and not _can_have("abstain", task):
        raise ConfigError(
            f"abstain is {target_error}, and a {task.kind} task has no single label to withhold; "
            "it is for tasks that answer with one label or one choice: leave it out"
        )


def _can_have(option: str, task: Task) -> bool:
    """Whether the kind has it, and answers are the data's labels (not strings that stand for numbers)."""
    return option in kind_of(task.spec("none")).options and bool(task.class_names)


def _temperature(
    task: Task, spec: HeadSpec, logits: Logits, targets: Sequence[Target]
) -> tuple[float | None, str | None]:
    """The temperature, or why there is none."""
    import torch

    if len(targets) < FEWEST_ROWS:
        return None, (
            f"scores are as trained: a temperature is fitted on at least {FEWEST_ROWS} held-out rows, "
            f"there are {len(targets)}"
        )
    if not np.isfinite(logits).all():
        return None, "scores are as trained: some held-out logits are not finite"
    kind, found, wanted = kind_of(spec), torch.from_numpy(logits.astype(np.float64)), task.stack(targets)
    best = fit_temperature(lambda times: float(kind.loss(found * times, wanted, None)), len(targets))
    return float(f"{best:.4g}"), None


def _abstention(judged: Judged, target_error: float) -> Abstention:
    assert judged.sure is not None, "a task that abstains has scores: this is a bug"
    assert judged.right is not None, "a task that abstains has right answers: this is a bug"
    found = choose_threshold(judged.sure, judged.right, target_error)
    return Abstention(found.value, target_error, found.coverage, found.error, found.bound, judged.num_rows)


def _abstention_told(found: Abstention) -> str:
    if not found.coverage:
        return (
            f"abstain: no score has an error of at most {found.target_error:.1%} on {found.rows:,} held-out "
            "rows, so no label is answered at all; allow a larger error, or train on more rows"
        )
    told = (
        f"no label is answered under a score of {found.threshold:.4f}: of {found.rows:,} held-out rows "
        f"{found.coverage:.1%} are answered, {found.error:.1%} of them wrong"
    )
    if found.error_bound <= found.target_error:
        return f"{told} (at most {found.error_bound:.1%} with a confidence of 95 %)"
    return (
        f"{told}; so few rows cannot assure {found.target_error:.1%}: the error may be up to "
        f"{found.error_bound:.1%} (95 %); hold out more rows"
    )


def _moved(threshold: float, factor: float) -> float:
    """A threshold of probabilities, when all logits are multiplied by `factor`."""
    if factor == 1:
        return threshold
    return 1 / (1 + math.exp(-factor * math.log(threshold / (1 - threshold))))
