"""The loop on a problem small enough to see through: a linear head on two numbers."""

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.unit.training.conftest import Told
from training.errors import TrainingFailedError
from training.loop.batches import training_batches
from training.loop.fit import Learner, StagePlan, fit
from training.loop.journal import NoJournal
from training.loop.optim import Group
from training.loop.progress import NullProgress
from training.metrics.scores import Metric
from training.tasks import Logits, Target
from training.tasks.single_label import SingleLabel

STATES = torch.tensor([[1.0, 0.2], [0.9, -0.1], [-1.0, 0.3], [-0.8, -0.2]] * 4)
TARGETS: list[Target] = [0, 0, 1, 1] * 4


def learner(task: SingleLabel | None = None, *, lr: float = 0.3, head: nn.Linear | None = None) -> Learner:
    head = head or nn.Linear(2, 2)
    nn.init.constant_(head.weight, 0.0)
    nn.init.constant_(head.bias, 0.0)
    task = task or SingleLabel(("a", "b"), Metric("accuracy"))

    targets = task.stack(TARGETS)

    def loss(rows: Sequence[int]) -> Tensor:
        index = torch.as_tensor(rows)
        return cross_entropy(head(STATES[index]), targets[index])

    def validation() -> tuple[Logits, float]:
        logits = head(STATES)
        return logits.numpy(), float(cross_entropy(logits, targets))

    return Learner(
        task=task,
        parameters=dict(head.named_parameters()),
        groups=[Group(tuple(head.parameters()), lr)],
        loss=loss,
        validation=validation,
        batches=lambda epoch: training_batches(
            [1] * len(STATES), batch_tokens=99, batch_size=4, seed=0, epoch=epoch
        ),
        validation_targets=TARGETS,
    )


def run(learner: Learner, plan: StagePlan | None = None) -> Any:
    return fit(plan or StagePlan("head", 5, 0.06), learner, NullProgress(), NoJournal())


def test_it_learns_and_tells() -> None:
    told = Told()
    result = fit(StagePlan("head", 5, 0.06), learner(), told, NoJournal())
    assert result.best.value == 1.0
    assert told.stages == [("head", 20)]
    assert told.ended == ["head"]
    assert len(told.losses) == 20
    assert [epoch for epoch, *_ in told.epochs] == [1, 2, 3, 4, 5]
    assert [record.epoch for record in result.history] == [0, 1, 2, 3, 4, 5]


def test_among_equal_metrics_the_lower_validation_loss_is_best() -> None:
    result = run(learner())
    losses = [record.validation_loss for record in result.history]
    assert result.best_epoch == losses.index(min(losses))
    assert result.best.loss == pytest.approx(min(losses))


class _Spoiled(SingleLabel):
    """Scores from a list, whatever the logits; for what the loop does with them."""

    scripted: list[float]

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        del logits, targets
        return {"accuracy": self.scripted.pop(0)}


def scripted(values: list[float]) -> SingleLabel:
    task = _Spoiled(("a", "b"), Metric("accuracy"))
    object.__setattr__(task, "scripted", list(values))
    return task


def test_the_best_state_is_restored_and_checked() -> None:
    work = learner(scripted([0.1, 0.9, 0.2, 0.3, 0.9]))
    seen: list[Tensor] = []
    measure, weight = work.validation, work.parameters["weight"]

    def validation() -> tuple[Logits, float]:
        seen.append(weight.detach().clone())
        return measure()

    result = run(replace(work, validation=validation), StagePlan("head", 3, 0.06))
    assert result.best_epoch == 1
    assert torch.equal(weight, seen[1])
    assert not torch.equal(seen[1], seen[3])


def test_a_best_state_that_does_not_give_its_metric_again_is_an_error() -> None:
    with pytest.raises(TrainingFailedError, match=r"gives accuracy 0.8 again, recorded was 0.9 in epoch 1"):
        run(learner(scripted([0.1, 0.9, 0.2, 0.8])), StagePlan("head", 2, 0.06))


def test_nan_is_never_best() -> None:
    result = run(learner(scripted([math.nan, 0.3, math.nan, 0.3])), StagePlan("head", 2, 0.06))
    assert result.best_epoch == 1
    with pytest.raises(TrainingFailedError, match="no epoch gave a finite accuracy"):
        run(learner(scripted([math.nan] * 4)), StagePlan("head", 2, 0.06))


def test_patience_ends_a_stage() -> None:
    told = Told()
    values = [0.1, 0.5, 0.4, 0.4, 0.4, 0.5]
    fit(StagePlan("head", 50, 0.06, patience=3), learner(scripted(values)), told, NoJournal())
    assert [epoch for epoch, *_ in told.epochs] == [1, 2, 3, 4]
    assert [best for *_, best in told.epochs] == [0.5] * 4


def weights_seen(work: Learner) -> tuple[Learner, list[Tensor]]:
    """The same, and its weight at every evaluation."""
    seen: list[Tensor] = []
    measure, weight = work.validation, work.parameters["weight"]

    def validation() -> tuple[Logits, float]:
        seen.append(weight.detach().clone())
        return measure()

    return replace(work, validation=validation), seen


def test_a_stage_that_ran_to_its_end_keeps_its_last_state_where_that_is_asked() -> None:
    values = [0.1, 0.9, 0.2, 0.3, 0.3]
    work, seen = weights_seen(learner(scripted(values)))
    result = run(work, StagePlan("head", 3, 0.06, patience=5, keep_last=True))
    assert (result.best_epoch, result.best.value) == (3, 0.3)
    assert torch.equal(work.parameters["weight"], seen[3])
    assert not torch.equal(seen[1], seen[3])


def test_a_stage_that_patience_stopped_keeps_its_best_state_even_so() -> None:
    work, seen = weights_seen(learner(scripted([0.1, 0.9, 0.2, 0.3, 0.9])))
    result = run(work, StagePlan("head", 30, 0.06, patience=2, keep_last=True))
    assert (result.best_epoch, result.best.value, len(result.history)) == (1, 0.9, 4)
    assert torch.equal(work.parameters["weight"], seen[1])


def at_loss(work: Learner, losses: Sequence[float]) -> Learner:
    """The same, with these train losses an epoch; their gradients stay what they are."""
    steps = iter([loss for loss in losses for _ in work.batches(1)])

    def loss(rows: Sequence[int]) -> Tensor:
        found = work.loss(rows)
        return found - found.detach() + next(steps)

    return replace(work, loss=loss)


@pytest.mark.parametrize(("learnt", "epochs"), [(None, 4), (0.001, 3), (0.01, 2), (1.0, 1)])
def test_a_stage_ends_when_it_has_learnt_all_of_its_train_rows(learnt: float | None, epochs: int) -> None:
    work, seen = weights_seen(
        at_loss(learner(scripted([0.1, 0.9, 0.2, 0.3, 0.4])), [0.5, 0.005, 0.0005, 0.0])
    )
    plan = StagePlan("head", 4, 0.06, keep_last=True, learnt=learnt)
    result = run(work, plan)
    assert (result.best_epoch, len(result.history)) == (epochs, 1 + epochs)
    assert torch.equal(work.parameters["weight"], seen[epochs])


def test_a_last_state_without_a_finite_metric_gives_way_to_the_best() -> None:
    work, seen = weights_seen(learner(scripted([0.1, 0.9, math.nan, 0.9])))
    result = run(work, StagePlan("head", 2, 0.06, keep_last=True))
    assert (result.best_epoch, result.best.value) == (1, 0.9)
    assert torch.equal(work.parameters["weight"], seen[1])


def test_evaluations_may_be_epochs_apart_and_the_last_epoch_has_one() -> None:
    told = Told()
    result = fit(StagePlan("head", 7, 0.06, every=3), learner(), told, NoJournal())
    assert [record.epoch for record in result.history] == [0, 3, 6, 7]
    assert len(told.losses) == 7 * 4


def test_a_stage_without_parameters_is_an_error() -> None:
    work = learner()
    with pytest.raises(TrainingFailedError, match="no trainable parameters"):
        run(replace(work, parameters={}, groups=[]))


def test_a_zero_gradient_is_an_error() -> None:
    work = learner()
    with pytest.raises(TrainingFailedError, match="epoch 1, step 1: the gradient is zero everywhere"):
        run(replace(work, loss=lambda rows: (work.parameters["bias"] * 0.0).sum()))


def test_a_group_that_no_gradient_reaches_is_an_error() -> None:
    work = learner()
    aside = nn.Parameter(torch.zeros(3))
    groups = [*work.groups, Group((aside,), 0.1)]
    with pytest.raises(TrainingFailedError, match="no gradient reaches"):
        run(replace(work, parameters=dict(work.parameters) | {"aside": aside}, groups=groups))


def test_a_loss_that_is_no_number_is_an_error() -> None:
    work = learner()
    with pytest.raises(TrainingFailedError, match="epoch 1, step 1: loss nan.*lower the learning rate"):
        run(replace(work, loss=lambda rows: work.parameters["bias"].sum() * math.nan))


def test_no_epochs_measure_only() -> None:
    result = run(learner(), StagePlan("head", 0, 0.06))
    assert (result.best_epoch, len(result.history)) == (0, 1)


# ---- the loop against one written out


# Of a step each: small and opposite ones (which would cancel if they added up), and one that is clipped.
PULLS = [0.5, -0.5, 30.0, 0.1, -0.2, 0.3, -40.0, 0.05, 0.2]
PER_EPOCH = [[0, 1, 2, 3], [4], [5, 6]]


def pulled(parameter: nn.Parameter, *, lr: float = 0.1) -> Learner:
    """One vector; the loss of step i is PULLS[i] times its sum, whatever the rows. The last state is best."""
    steps, losses = iter(PULLS), iter(range(9, 0, -1))
    return Learner(
        task=SingleLabel(("a", "b"), Metric("accuracy")),
        parameters={"vector": parameter},
        groups=[Group((parameter,), lr, 0.3)],
        loss=lambda rows: (parameter * next(steps)).sum(),
        validation=lambda: (np.zeros((1, 2), np.float32), next(losses)),
        batches=lambda epoch: PER_EPOCH,
        validation_targets=[0],
    )


def test_steps_are_adamw_on_clipped_gradients_along_one_schedule() -> None:
    """Three epochs of three batches: the schedule goes on over epochs, no gradient outlives its step."""
    warmup, start = 0.25, torch.tensor([1.0, -2.0])
    parameter = nn.Parameter(start.clone())
    told = Told()
    result = fit(StagePlan("x", 3, warmup), pulled(parameter), told, NoJournal())
    wanted = nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([wanted], lr=0.1, weight_decay=0.3)
    losses: list[float] = []
    for step, pull in enumerate(PULLS):
        done = (step + 0.5) / len(PULLS)
        optimizer.param_groups[0]["lr"] = 0.1 * (
            done / warmup if done < warmup else (1 - done) / (1 - warmup)
        )
        losses.append(float((wanted * pull).sum().detach()))
        gradient = torch.full((2,), pull)
        wanted.grad = gradient / max(1.0, float(gradient.norm()) + 1e-6)
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), wanted.detach())
    assert told.losses == pytest.approx(losses)
    sizes = [len(rows) for rows in PER_EPOCH]
    means = [
        sum(n * loss for n, loss in zip(sizes, losses[first : first + 3], strict=True)) / sum(sizes)
        for first in (0, 3, 6)
    ]
    assert [record.loss for record in result.history[1:]] == pytest.approx(means)


class Memory:
    """A journal that keeps states as a file would: whole, and apart from what goes on."""

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}

    def load(self, stage: str) -> dict[str, Any] | None:
        state = self.states.get(stage)
        return None if state is None else dict(torch.load(io.BytesIO(state), weights_only=True))

    def save(self, stage: str, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.states[stage] = buffer.getvalue()


class Killed(Told):
    """Ends the run after an evaluation, as a kill would."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.last = epoch

    def evaluated(self, epoch: int, metric: str, value: float, best: float) -> None:
        super().evaluated(epoch, metric, value, best)
        if epoch == self.last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("killed_after", [1, 3, 5])
def test_a_resumed_stage_ends_as_one_that_was_not_interrupted(killed_after: int) -> None:
    plan = StagePlan("head", 6, 0.2, patience=4)
    whole = learner(lr=0.02)
    wanted = fit(plan, whole, NullProgress(), NoJournal())
    journal, told = Memory(), Told()
    with pytest.raises(KeyboardInterrupt):
        fit(plan, learner(lr=0.02), Killed(killed_after), journal)
    again = learner(lr=0.02)
    found = fit(plan, again, told, journal)
    assert [epoch for epoch, *_ in told.epochs] == list(range(killed_after + 1, 7))
    assert told.stages == [("head", 4 * (6 - killed_after))]
    assert found.history == wanted.history
    assert (found.best_epoch, found.best.loss) == (wanted.best_epoch, wanted.best.loss)
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, again.parameters[name])


def test_a_state_that_was_best_before_the_kill_stays_best() -> None:
    plan = StagePlan("head", 3, 0.06)
    journal = Memory()
    first = learner(scripted([0.1, 0.9]))
    with pytest.raises(KeyboardInterrupt):
        fit(plan, first, Killed(1), journal)
    best = {name: parameter.detach().clone() for name, parameter in first.parameters.items()}
    again = learner(scripted([0.3, 0.2, 0.9]))
    result = fit(plan, again, NullProgress(), journal)
    assert (result.best_epoch, [record.epoch for record in result.history]) == (1, [0, 1, 2, 3])
    assert all(torch.equal(best[name], parameter) for name, parameter in again.parameters.items())


def test_errors_are_better_when_lower() -> None:
    """The deciding metric of a regression may be an error."""

    class Falling(SingleLabel):
        def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
            del logits, targets
            return {"mae": values.pop(0)}

    values = [3.0, 1.0, 2.0, 1.0]
    result = run(learner(Falling(("a", "b"), Metric("mae"))), StagePlan("head", 2, 0.06))
    assert result.best_epoch == 1


def test_a_better_metric_wins_over_a_lower_loss() -> None:
    result = run(learner(scripted([0.9, 0.5, 0.6, 0.9])), StagePlan("head", 2, 0.06))
    assert (result.best_epoch, result.best.value) == (0, 0.9)


def test_the_proof_is_exact_on_a_cpu_and_allows_a_few_rows_elsewhere() -> None:
    values = [0.1, 0.9, 0.88]
    with pytest.raises(TrainingFailedError, match="this is a bug"):
        run(learner(scripted(values)), StagePlan("head", 1, 0.06))
    result = run(replace(learner(scripted(values)), exact=False), StagePlan("head", 1, 0.06))
    assert result.best_epoch == 1
    with pytest.raises(TrainingFailedError, match="this is a bug"):
        run(replace(learner(scripted([0.1, 0.9, 0.86])), exact=False), StagePlan("head", 1, 0.06))
