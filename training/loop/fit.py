"""The one training loop: epochs, best state, early stopping, resuming, and the proof that the best came back.

It trains whatever parameters it is given (a head, an adapter, a whole model) and knows nothing of methods,
files or texts; those are behind the callables of `Learner`.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.errors import TrainingFailedError
from training.loop.journal import Journal
from training.loop.optim import Group, build_optimizer, clip, schedule_factor, set_learning_rate
from training.loop.progress import Progress
from training.tasks import Logits, Target, Task

_PROOF_TOLERANCE = 1e-6


@dataclass(frozen=True)
class StagePlan:
    """How long a stage runs. `patience` counts epochs without a better metric; None = to the end.

    `every` epochs there is an evaluation, and after the last one. A stage is also done when an evaluation
    finds that the mean train loss of its epoch was below `learnt`: no gradient is left. With `keep_last` a
    stage that ran to its end keeps the state it has there: the best of several is partly luck.
    """

    name: str
    epochs: int
    warmup: float
    patience: int | None = None
    every: int = 1
    keep_last: bool = False
    learnt: float | None = None


@dataclass(frozen=True)
class Learner:
    """What a stage trains and on what.

    `parameters` are all that move, by name; `groups` gives them their rates. `loss` is the mean loss of some
    train rows, with gradients; `validation` gives, without, logits [N, L] in the data's units and the mean
    loss of all validation rows. `batches(epoch)` says which rows go together. `exact`: whether the same state
    measures the same twice (not so on a GPU).
    """

    task: Task
    parameters: Mapping[str, nn.Parameter]
    groups: Sequence[Group]
    loss: Callable[[Sequence[int]], Tensor]
    validation: Callable[[], tuple[Logits, float]]
    batches: Callable[[int], list[list[int]]]
    validation_targets: Sequence[Target]
    exact: bool = True

    def evaluate(self) -> "Evaluation":
        """All metrics on the validation rows."""
        with torch.no_grad():
            logits, loss = self.validation()
        return judged(self.task, logits, loss, self.validation_targets)


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one evaluation; `value` is the deciding one, `task` the one calibrated on these rows."""

    values: Mapping[str, float]
    value: float
    loss: float
    logits: Logits
    task: Task


def judged(task: Task, logits: Logits, loss: float, targets: Sequence[Target]) -> Evaluation:
    """All metrics of logits [N, L] in the data's units, with the mean loss that they had."""
    calibrated = task.calibrated(logits, targets)
    values = calibrated.scores(logits, targets)
    return Evaluation(values, values[calibrated.metric.name], loss, logits, calibrated)


@dataclass(frozen=True)
class EpochRecord:
    """One line of the history. `loss` is the mean train loss (None before the first step)."""

    stage: str
    epoch: int
    loss: float | None
    validation_loss: float
    values: Mapping[str, float]


@dataclass
class StageState:
    """Where a stage stands: everything a resumed run needs to go on as if nothing had happened."""

    epoch: int = 0
    best_epoch: int | None = None
    best_value: float | None = None
    best_loss: float = math.inf
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[EpochRecord] = field(default_factory=list)

    def over(self, plan: StagePlan) -> bool:
        """Whether the stage is done: at its end, or by patience."""
        waited = self.epoch - (self.best_epoch or 0)
        return self.ended(plan) or (plan.patience is not None and waited >= plan.patience)

    def ended(self, plan: StagePlan) -> bool:
        """Whether there is nothing more to do, or nothing more to learn from the train rows."""
        loss = self.history[-1].loss if self.history else None
        no_gradient = loss is not None and plan.learnt is not None and loss < plan.learnt
        return self.epoch >= plan.epochs or no_gradient


@dataclass(frozen=True)
class StageResult:
    """What a stage reached: its best evaluation (recomputed after restoring), where, and how it got there."""

    best: Evaluation
    best_epoch: int
    history: tuple[EpochRecord, ...]


Steps = Generator[list[int], float, StageResult]
"""A stage in the making: it yields train rows, is sent their loss when gradients are there, and returns."""


def fit(plan: StagePlan, learner: Learner, progress: Progress, journal: Journal) -> StageResult:
    """Train one stage and leave the learner's parameters in the state that the plan keeps.

    Raises:
        TrainingFailedError: as `steps_of`.
    """
    steps = steps_of(plan, learner, progress, journal)
    found = advanced(steps)
    while not isinstance(found, StageResult):
        loss = learner.loss(found)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        found = advanced(steps, float(loss.detach()))
    return found


def advanced(steps: Steps, loss: float | None = None) -> list[int] | StageResult:
    """Go on after a step that had this loss: the rows of the next one, or what the stage reached."""
    try:
        return next(steps) if loss is None else steps.send(loss)
    except StopIteration as over:
        result: StageResult = over.value
        return result


def steps_of(plan: StagePlan, learner: Learner, progress: Progress, journal: Journal) -> Steps:
    """All of a stage but losses and their gradients, which are left to whoever runs it.

    The state before the first step counts as epoch 0, so a stage never ends worse than it began.

    Raises:
        TrainingFailedError: nothing to train, no gradient, a loss or all metrics not finite, or a best state
            that does not give its recorded metric again.
    """
    _check_trainable(plan, learner)
    optimizer = build_optimizer(learner.groups)
    state = _resume(plan, learner, optimizer, journal)
    last = None
    if state is None:
        state = StageState()
        last = _record(plan, state, 0, None, learner)
    progress.begin(plan.name, sum(len(learner.batches(e)) for e in range(state.epoch + 1, plan.epochs + 1)))
    while not state.over(plan):
        state.epoch += 1
        epoch = state.epoch
        loss = yield from _run_epoch(plan, learner, optimizer, epoch, progress)
        if epoch % plan.every and epoch < plan.epochs:
            continue
        last = _record(plan, state, epoch, loss, learner)
        journal.save(plan.name, _to_plain(state, learner, optimizer))
        name, best = learner.task.metric.name, math.nan if state.best_value is None else state.best_value
        progress.evaluated(epoch, name, state.history[-1].values[name], best)
    progress.end(plan.name)
    if plan.keep_last and state.ended(plan):
        return _as_it_is(plan, state, learner, last)
    return _restore_best(plan, state, learner)


def _check_trainable(plan: StagePlan, learner: Learner) -> None:
    count = sum(p.numel() for p in learner.parameters.values() if p.requires_grad)
    if plan.epochs > 0 and count == 0:
        raise TrainingFailedError(f"stage {plan.name}: no trainable parameters; nothing would be learnt")


def _run_epoch(
    plan: StagePlan, learner: Learner, optimizer: torch.optim.Optimizer, epoch: int, progress: Progress
) -> Generator[list[int], float, float]:
    batches = learner.batches(epoch)
    total = 0.0
    for index, rows in enumerate(batches):
        done = (epoch - 1 + (index + 0.5) / len(batches)) / plan.epochs
        set_learning_rate(optimizer, schedule_factor(done, plan.warmup))
        optimizer.zero_grad(set_to_none=True)
        value = yield rows
        norm = clip(learner.parameters.values())
        _check_step(plan, epoch, index, value, norm)
        if epoch == 1 and index == 0:
            _check_reached(plan, learner)
        optimizer.step()
        progress.step(value)
        total += value * len(rows)
    return total / sum(map(len, batches))


def _check_step(plan: StagePlan, epoch: int, index: int, loss: float, norm: float) -> None:
    where = f"stage {plan.name}, epoch {epoch}, step {index + 1}"
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingFailedError(f"{where}: loss {loss}, gradient norm {norm}; lower the learning rate")
    if epoch == 1 and index == 0 and norm == 0.0:
        raise TrainingFailedError(f"{where}: the gradient is zero everywhere; nothing would be learnt")


def _check_reached(plan: StagePlan, learner: Learner) -> None:
    """Some of the parameters may have no part in a loss (an unused pooler), but never a whole group."""
    if any(group.parameters and all(p.grad is None for p in group.parameters) for group in learner.groups):
        where = f"stage {plan.name}"
        raise TrainingFailedError(f"{where}: no gradient reaches the parameters of a group: this is a bug")


def _record(
    plan: StagePlan, state: StageState, epoch: int, loss: float | None, learner: Learner
) -> Evaluation:
    found = learner.evaluate()
    state.epoch = epoch
    state.history.append(EpochRecord(plan.name, epoch, loss, found.loss, dict(found.values)))
    metric = learner.task.metric
    tied = found.value == state.best_value and found.loss < state.best_loss
    if metric.better(found.value, state.best_value) or tied:
        state.best_epoch, state.best_value, state.best_loss = epoch, found.value, found.loss
        state.best = _snapshot(learner)
    return found


def _snapshot(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().cpu().clone() for name, p in learner.parameters.items()}


def _load(learner: Learner, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(values[name])


def _restore_best(plan: StagePlan, state: StageState, learner: Learner) -> StageResult:
    if state.best_epoch is None or state.best_value is None:
        raise TrainingFailedError(
            f"stage {plan.name}: no epoch gave a finite {learner.task.metric.name} on validation; "
            "lower the learning rate, or check that the validation rows have more than one label"
        )
    _load(learner, state.best)
    again = learner.evaluate()
    # Reductions on a GPU are not bitwise repeatable, so a row on the boundary may turn over there.
    tolerance = _PROOF_TOLERANCE if learner.exact else 3.0 / max(100, len(learner.validation_targets))
    if not np.isclose(again.value, state.best_value, rtol=0, atol=tolerance):
        raise TrainingFailedError(
            f"stage {plan.name}: the best state gives {learner.task.metric.name} {again.value!r} again, "
            f"recorded was {state.best_value!r} in epoch {state.best_epoch}: this is a bug"
        )
    return StageResult(again, state.best_epoch, tuple(state.history))


def _as_it_is(plan: StagePlan, state: StageState, learner: Learner, last: Evaluation | None) -> StageResult:
    """The state at the end, whose evaluation was the `last` one (None: a resumed stage was over already)."""
    found = last or learner.evaluate()
    if not math.isfinite(found.value):
        return _restore_best(plan, state, learner)
    return StageResult(found, state.epoch, tuple(state.history))


def _to_plain(state: StageState, learner: Learner, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        **vars(state),
        "history": [list(vars(record).values()) for record in state.history],
        "current": _snapshot(learner),
        "optimizer": optimizer.state_dict(),
    }


def _resume(
    plan: StagePlan, learner: Learner, optimizer: torch.optim.Optimizer, journal: Journal
) -> StageState | None:
    stored = journal.load(plan.name)
    if stored is None:
        return None
    _load(learner, stored["current"])
    optimizer.load_state_dict(stored["optimizer"])
    kept = {name: stored[name] for name in ("epoch", "best_epoch", "best_value", "best_loss", "best")}
    return StageState(**kept, history=[EpochRecord(*record) for record in stored["history"]])
