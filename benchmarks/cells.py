"""One cell of a quality table: a method trained on a task, with everything that methods share made once.

The backbone is loaded once per process; tokens, the frozen backbone's features and the head that stage one
finds on them are the same for every method of a task (same seed), so they are made once per task.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import record
from modeling import Adapter, Backbone, load_backbone
from training.data.load import load_data
from training.learning.material import build_method, prepare, settle, stage_plan
from training.learning.seed import fitted_head, soften
from training.loop.fit import EpochRecord, StageResult, fit
from training.loop.journal import NoJournal
from training.loop.precision import products_of
from training.loop.progress import NullProgress
from training.loop.stages import adapter_learner, frozen_features, measured_head
from training.settings.config import Hyper, TrainConfig

PROBE = "linear_probe"
SETTINGS: dict[str, dict[str, Any]] = {
    "stackoverflow20": {"max_train_rows": 5_000},
    "sst2": {"max_train_rows": 5_000},
    "mrpc": {"metric": "f1+accuracy"},
    "stsb": {"metric": "pearson+spearman"},
}
"""Of the data, where a task has others than the defaults: rows, and the metric where papers average two."""


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


class TaskBench:
    """A task's data on one backbone: loaded, tokenised, and its head trained on frozen features, once."""

    def __init__(
        self, backbone: Backbone, data: Path, task: str, seed: int, settings: dict[str, Any]
    ) -> None:
        self.backbone, self.seed = backbone, seed
        self._given = {"data": str(data / task), "task": task, "seed": seed, **settings}
        config = TrainConfig(**self._given, method=PROBE)
        self.data = load_data(config)
        hyper = settle(config, self.data, backbone)
        self.material, _ = prepare(config, hyper, self.data, backbone)
        features = frozen_features(self.material, NullProgress())
        strata = self.data.task.strata(self.data.train.targets)
        fitted = fitted_head(self.material, features.train, strata, None, seed)
        self.head = nn.Linear(fitted.weight.shape[1], len(fitted.weight))
        fitted.put_into(self.head)
        device = backbone.device
        self.first = measured_head(
            self.material, features.validation, fitted.weight.to(device), fitted.bias.to(device)
        )

    def run(self, cell: Cell) -> dict[str, Any]:
        """Train the cell from the shared head; its record."""
        started = time.monotonic()
        adapter, hyper = self.made(cell)
        body = None if cell.method == PROBE else self._adapter(adapter, hyper, cell)
        best, metric = self.first if body is None else body.best, self.data.task.metric.name
        count = 0 if body is None else adapter.num_body_parameters
        return {
            "task": self._given["task"],
            "method": cell.method,
            "seed": self.seed,
            "metric": metric,
            "value": best.value,
            "values": dict(best.values),
            "head_only": self.first.value,
            "parameters": count,
            "share_percent": 100 * count / self.backbone.num_parameters,
            "best_epoch": 0 if body is None else body.best_epoch,
            "rows": len(self.data.train),
            "validation_rows": len(self.data.validation),
            "curve": [] if body is None else [_point(r, metric) for r in body.history],
            "settings": dict(vars(hyper)),
            "training_products": cell.precision,
            "seconds": round(time.monotonic() - started),
            "origin": record.origin(),
        }

    def made(self, cell: Cell) -> tuple[Adapter, Hyper]:
        """The cell's adapter on the shared head, before it is trained, and all numbers of its training."""
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
        soften(adapter.head, self.material.spec, hyper.head_start)
        return adapter, hyper

    def _adapter(self, adapter: Adapter, hyper: Hyper, cell: Cell) -> StageResult:
        with adapter.attached(self.backbone):
            products = products_of(cell.precision, self.backbone.model, self.backbone.device)
            learner = adapter_learner(self.material, adapter, hyper, self.seed, products=products)
            plan = stage_plan(hyper, len(learner.batches(1)), keep_last=True)
            return fit(plan, learner, NullProgress(), NoJournal())


def _point(epoch: EpochRecord, metric: str) -> list[float | None]:
    loss = None if epoch.loss is None else round(epoch.loss, 5)
    return [epoch.epoch, loss, round(epoch.values[metric], 5)]


def open_backbone() -> Backbone:
    """On the processor, with the threads that the environment allows."""
    torch.manual_seed(0)
    return load_backbone("minilm", device="cpu")
