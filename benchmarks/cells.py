"""One cell of a quality table: a method trained on a task, with everything that methods share made once.

The backbone is loaded once per process; tokens, the frozen backbone's features and the head that stage one
finds on them are the same for every method of a task (same seed), so they are made once per task.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import record
from benchmarks.mixed_precision import in_bfloat16, rounded_products
from modeling import Adapter, Backbone, load_backbone
from training.data.load import TaskData, load_data
from training.loop.fit import Learner, StageResult, fit
from training.loop.journal import NoJournal
from training.loop.progress import NullProgress
from training.loop.stages import Material, adapter_learner
from training.run import build_method, frozen_features, prepare, settle, stage_plan, train_head
from training.settings.config import Hyper, TrainConfig

PROBE = "linear_probe"


@dataclass(frozen=True)
class Cell:
    """What to train: a method with its options, at which rate, for how long."""

    method: str
    lr: float
    epochs: int
    batch_size: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    precision: str = "bfloat16"
    evaluate_steps: int = 0


@dataclass(frozen=True)
class Wanted:
    """A cell of a result file: its key there, and on what it is trained; `settings` are the data's."""

    key: str
    task: str
    cell: Cell
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


class TaskBench:
    """A task's data on one backbone: loaded, tokenised, and its head trained on frozen features, once."""

    def __init__(
        self, backbone: Backbone, data: Path, task: str, seed: int, settings: dict[str, Any]
    ) -> None:
        self.backbone, self.seed = backbone, seed
        self._given = {"data": str(data / task), "task": task, "seed": seed, **settings}
        config = TrainConfig(**self._given, method=PROBE)
        self.data: TaskData = load_data(config)
        self.hyper: Hyper = settle(config, self.data, backbone)
        self.material: Material = prepare(config, self.hyper, self.data, backbone)[0]
        self.head, self.first = self._first_stage()

    def _first_stage(self) -> tuple[nn.Linear, StageResult]:
        """The head that every method starts from."""
        features = frozen_features(self.material, NullProgress())
        head = nn.Linear(self.backbone.hidden_size, len(self.data.task.labels))
        found = train_head(self.material, features, head, self.hyper, self.seed, NullProgress(), NoJournal())
        return head, found

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train the cell from the shared head; its record."""
        started = time.monotonic()
        config = TrainConfig(
            **self._given,
            method=cell.method,
            method_config=cell.options,
            lr=cell.lr or None,
            epochs=cell.epochs,
            batch_size=cell.batch_size,
            evaluate_steps=cell.evaluate_steps,
        )
        made = build_method(config)
        hyper = settle(config, self.data, self.backbone, virtual=made.virtual_tokens)
        adapter = Adapter.create(self.backbone, made, self.material.spec, seed=self.seed)
        assert adapter.head is not None
        adapter.head.load_state_dict(self.head.state_dict())
        if cell.method == PROBE:
            return self._record(cell, hyper, self.first, 0, started)
        result = self._adapter(adapter, hyper, cell)
        return self._record(cell, hyper, result, adapter.num_body_parameters, started)

    def _adapter(self, adapter: Adapter, hyper: Hyper, cell: Cell) -> StageResult:
        with adapter.attached(self.backbone):
            learner = adapter_learner(self.material, adapter, hyper, self.seed)
            plan = stage_plan("adapter", hyper, len(learner.batches(1)))
            learner = _in_precision(learner, self.backbone, cell.precision)
            return fit(plan, learner, NullProgress(), NoJournal())

    def _record(
        self, cell: Cell, hyper: Hyper, result: StageResult, count: int, started: float
    ) -> dict[str, Any]:
        metric = self.data.task.metric.name
        return {
            "task": self._given["task"],
            "method": cell.method,
            "seed": self.seed,
            "metric": metric,
            "value": result.best.value,
            "values": dict(result.best.values),
            "head_only": self.first.best.value,
            "parameters": count,
            "share_percent": 100 * count / self.backbone.num_parameters,
            "best_epoch": 0 if cell.method == PROBE else result.best_epoch,
            "rows": len(self.data.train),
            "validation_rows": len(self.data.validation),
            "curve": []
            if cell.method == PROBE
            else [[r.epoch, _rounded(r.loss), round(r.values[metric], 5)] for r in result.history],
            "settings": {k: dict(v) if k == "method_config" else v for k, v in vars(hyper).items()},
            "training_products": cell.precision,
            "seconds": round(time.monotonic() - started),
            "origin": record.origin(),
        }


def _rounded(loss: float | None) -> float | None:
    return None if loss is None else round(loss, 5)


def _in_precision(learner: Learner, backbone: Backbone, precision: str) -> Learner:
    """The learner with its training steps' matrix products in bfloat16; evaluation stays float32."""
    if precision != "bfloat16":
        return learner
    products = rounded_products(backbone.model)
    inner: Callable[[Sequence[int]], Tensor] = learner.loss

    def loss(rows: Sequence[int]) -> Tensor:
        with ExitStack() as stack:
            stack.enter_context(in_bfloat16(products))
            return inner(rows)

    return replace(learner, loss=loss)


def train_missing(name: str, wanted: Sequence[Wanted], data: Path, minutes: float) -> None:
    """Train the cells that `results/<name>.json` lacks, or has at another rate; write each when it is done.

    Cells of the same data and seed that follow each other share its preparation. No cell is started after
    `minutes`.
    """
    until = time.time() + 60 * minutes
    backbone, opened, bench = None, None, None
    for one in wanted:
        if is_done(one, record.read(name)):
            continue  # before, or by another process meanwhile
        if time.time() > until:
            print("out of time; run again to go on")
            return
        backbone = backbone or open_backbone()
        if bench is None or opened != (one.task, one.seed, one.settings):
            opened = (one.task, one.seed, one.settings)
            bench = TaskBench(backbone, data, one.task, one.seed, one.settings)
        made = bench.run(one.cell)
        record.add(name, one.key, made)
        print(one.key, made["metric"], f"{100 * made['value']:.2f}", f"{made['seconds']} s", flush=True)


def is_done(one: Wanted, found: dict[str, Any]) -> bool:
    """Whether the results have the cell, trained at the rate that is wanted (0: the method's default)."""
    cell = found.get(one.key)
    return cell is not None and one.cell.lr in (0, cell["settings"]["lr"])


def open_backbone(name: str = "minilm") -> Backbone:
    """On the processor, with the threads that the environment allows."""
    torch.manual_seed(0)
    return load_backbone(name, device="cpu")
