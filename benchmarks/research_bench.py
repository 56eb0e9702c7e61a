"""What the research scripts share: rows that choose apart from those that judge, training of a fixed length.

Every adapter starts from the head that stage one finds on the frozen backbone and is trained for a fixed
number of epochs at the shipped precision; its last state counts, so no state is chosen by a score. Where
something has to be chosen (layers), one half of the validation rows (of 600 at most) chooses, and the other
half judges, here as everywhere.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks import cells
from benchmarks.cells import Cell, TaskBench
from modeling import Adapter, Backbone
from training.loop.encode import Rows
from training.loop.fit import Learner
from training.loop.optim import Group, build_optimizer, clip, schedule_factor, set_learning_rate
from training.loop.passes import trained
from training.loop.precision import AUTO, products_of
from training.loop.stages import adapter_learner
from training.settings.config import Hyper
from training.tasks import Logits, Target

Floats = npt.NDArray[np.float64]
MOST_VALIDATION_ROWS = 600


@dataclass(frozen=True)
class Given:
    """What all scripts are told: where data and backbone are, how much of the data, for how long."""

    data: Path
    backbone: str
    device: str
    rows: int
    epochs: int

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers of a record, beside its key."""
        return {"rows": self.rows, "epochs": self.epochs}


@dataclass(frozen=True)
class Half:
    """Some validation rows."""

    rows: Rows
    targets: Sequence[Target]


class Bench:
    """One task with one seed: its rows, its head on the frozen backbone, and adapters trained from there."""

    def __init__(
        self, backbone: Backbone, given: Given, task: str, seed: int, rows: int | None = None
    ) -> None:
        self.backbone, self.given, self.task, self.seed = backbone, given, task, seed
        settings = cells.SETTINGS.get(task, {}) | {"max_train_rows": rows or given.rows}
        self._products = products_of(AUTO, backbone.model, backbone.device)
        self._bench = TaskBench(backbone, given.data, task, seed, settings)
        self.material, self.metric = self._bench.material, self._bench.data.task.metric
        self.choose, self.judge = self._halves()

    def _halves(self) -> tuple[Half, Half]:
        """The validation rows in two, the same ones for every seed and method."""
        found, targets = self.material.validation, self.material.validation_targets
        order = list(range(len(found)))
        random.Random(0).shuffle(order)
        order = order[:MOST_VALIDATION_ROWS]
        middle = len(order) // 2
        first, second = (
            Half(replace(found, encoded=tuple(found.take(part))), [targets[row] for row in part])
            for part in (order[:middle], order[middle:])
        )
        return first, second

    def adapter(self, method: str, epochs: int | None = None, **options: Any) -> tuple[Adapter, Hyper]:
        """A new adapter on this task's head, and the numbers that its method is trained with."""
        return self._bench.made(Cell(method, 0, epochs or self.given.epochs, options=options))

    def learner(self, adapter: Adapter, hyper: Hyper) -> Learner:
        return adapter_learner(self.material, adapter, hyper, self.seed, products=self._products)

    def train(self, adapter: Adapter, hyper: Hyper) -> Adapter:
        """Adapter and head, to the end."""
        with adapter.attached(self.backbone):
            run(self.learner(adapter, hyper), hyper)
        return adapter

    def trained(self, method: str, epochs: int | None = None, **options: Any) -> Adapter:
        """`adapter` and `train`."""
        return self.train(*self.adapter(method, epochs, **options))

    def found(self, adapter: Adapter, half: Half) -> Logits:
        """What the metrics judge, in the data's units."""
        with adapter.attached(self.backbone):
            answered = trained(self.backbone, adapter, half.rows)
        task = self.material.task
        return task.found(task.in_units(answered.logits), answered.texts, half.targets)

    def score(self, adapter: Adapter, half: Half) -> float:
        """The task's metric."""
        return self.material.task.scores(self.found(adapter, half), half.targets)[self.metric.name]

    def errors(self, adapter: Adapter, half: Half) -> Floats:
        """Of each row: 0 or 1 for a label; the distance for a number."""
        found, targets = self.found(adapter, half), np.asarray(half.targets, dtype=np.float64)
        if not self.material.task.class_names:
            return np.asarray(np.abs(found[:, 0].astype(np.float64) - targets))
        wrong: Floats = (found.argmax(axis=1) != targets).astype(np.float64)
        return wrong

    def probe(self) -> Adapter:
        """The head that stage one finds, and no adapter."""
        return self.adapter("linear_probe")[0]


def run(learner: Learner, hyper: Hyper) -> None:
    """All epochs of a learner, whose adapter is attached, with the schedule and the clipping of training."""
    plan = [learner.batches(epoch) for epoch in range(1, hyper.epochs + 1)]
    total = sum(map(len, plan))
    warmup = hyper.warmup_for(total)
    optimizer = build_optimizer(learner.groups)
    for step, rows in enumerate(batch for batches in plan for batch in batches):
        set_learning_rate(optimizer, schedule_factor((step + 0.5) / total, warmup))
        optimizer.zero_grad(set_to_none=True)
        learner.loss(rows).backward()  # type: ignore[no-untyped-call]  # torch's own
        clip(learner.parameters.values())
        optimizer.step()


def in_turn(learners: Sequence[Learner], seed: int) -> Learner:
    """One learner of several that share parameters: each batch is one task's, and tasks take turns at random.

    A parameter that several have is trained once, at the first one's rate.
    """
    counts = [sum(map(len, learner.batches(1))) for learner in learners]
    starts = [0, *accumulate(counts)]

    def loss(rows: Sequence[int]) -> Tensor:
        number = next(i for i, end in enumerate(starts[1:]) if rows[0] < end)
        return learners[number].loss([row - starts[number] for row in rows])

    def batches(epoch: int) -> list[list[int]]:
        made = [
            [start + row for row in batch]
            for start, learner in zip(starts, learners, strict=False)
            for batch in learner.batches(epoch)
        ]
        random.Random(f"{seed} {epoch}").shuffle(made)
        return made

    first = learners[0]
    parameters = {f"{i}.{n}": p for i, one in enumerate(learners) for n, p in one.parameters.items()}
    groups = _once([group for learner in learners for group in learner.groups])
    return Learner(first.task, parameters, groups, loss, _nothing, batches, first.validation_targets)


def _nothing() -> tuple[Logits, float]:
    raise AssertionError("several tasks have no score: this is a bug")


def _once(groups: Sequence[Group]) -> list[Group]:
    """Without parameters that an earlier group has."""
    seen: set[int] = set()
    kept = []
    for group in groups:
        own = tuple(p for p in group.parameters if id(p) not in seen)
        seen |= {id(p) for p in own}
        kept.append(Group(own, group.lr, group.weight_decay))
    return kept


def copied(source: Adapter, target: Adapter, *, head: bool = False) -> Adapter:
    """`target` with the body of `source`; its own head, unless that of `source` (same labels) is wanted."""
    with torch.no_grad():
        for new, old in zip(target.body_parameters(), source.body_parameters(), strict=True):
            new.copy_(old)
    if head and source.head is not None and target.head is not None:
        target.head.load_state_dict(source.head.state_dict())
    return target


def placed(learner: Learner, adapter: Adapter, backbone: Backbone) -> Learner:
    """The learner with its adapter on the backbone for its own batches alone, so that others take turns."""

    def loss(rows: Sequence[int]) -> Tensor:
        with adapter.attached(backbone):
            return learner.loss(rows)

    return replace(learner, loss=loss)


def frozen(adapter: Adapter, keep: Callable[[str], bool] = lambda name: False) -> Adapter:
    """The adapter with its body held where it is, but for the tensors whose name in the file is kept."""
    for name, parameter in adapter.named_parameters().items():
        if not name.startswith("head/"):
            parameter.requires_grad_(keep(name))
    return adapter


def correlation(a: Floats, b: Floats) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
