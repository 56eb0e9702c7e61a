"""Full fine-tuning of a copy of the backbone: the baseline for adapters; it writes no file.

The second composition root. It runs the same two stages, data, loop and metrics as `recipe.py`, so that the
comparison differs in nothing but what is trained.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from modeling import Backbone, load_backbone
from training.cautions import warmup_caution
from training.config import TrainConfig
from training.data import load_data
from training.device import pick_device
from training.encode import with_longest_answer
from training.fit import EpochRecord, Learner, Measured, fit
from training.journal import NoJournal
from training.progress import NullProgress, Progress
from training.recipe import (
    frozen_features,
    prepare,
    settle,
    stage_plan,
    train_head,
)
from training.stages import Material, full_learner
from training.tasks import Task


@dataclass(frozen=True)
class FullResult:
    """What full fine-tuning reached on the validation rows; `head_metrics` are those after stage one."""

    metric: str
    metrics: dict[str, float]
    head_metrics: dict[str, float] | None
    best_epoch: int
    num_parameters: int
    history: tuple[EpochRecord, ...]
    seconds: float


def full_finetune(
    config: TrainConfig,
    *,
    progress: Progress | None = None,
    backbone: Backbone | None = None,
    dropout: bool = True,
) -> FullResult:
    """Train every parameter of a copy of the backbone, and the head, on the data of `config`.

    `config.method` is not used; gaps are filled from the row `full` of the defaults. `head_epochs=0` starts
    from a random head. `dropout` is the backbone's own, in stage two.

    Raises:
        ConfigError, DataError, TrainingFailedError: as `recipe.train`.
    """
    started = time.monotonic()
    progress = progress or NullProgress()
    config = replace(config, method="full", method_config={})
    data = load_data(config)
    backbone = backbone or load_backbone(config.backbone, device=pick_device(config.device))
    hyper = settle(config, data, backbone)
    data = with_longest_answer(data, backbone)
    material, _ = prepare(config, hyper, data, backbone)
    head = _new_head(backbone, data.task, config.seed)
    first = None
    if hyper.head_epochs and head is not None:
        features = frozen_features(material, hyper.pooling, progress)
        first = train_head(material, features, head, hyper, config.seed, progress, NoJournal())
    own = replace(material, backbone=unfrozen_copy(backbone))
    learner = full_learner(own, head, hyper, config.seed)
    learner = with_dropout(learner, own, config.seed) if dropout else learner
    num_batches = len(learner.batches(1))
    plan = stage_plan("full", hyper, num_batches)
    caution = warmup_caution(config, hyper, plan, num_batches)
    if caution is not None:
        progress.note(caution)
    result = fit(plan, learner, progress, NoJournal())
    return FullResult(
        metric=data.task.metric.name,
        metrics=dict(result.best.values),
        head_metrics=dict(first.best.values) if first is not None else None,
        best_epoch=result.best_epoch,
        num_parameters=sum(p.numel() for p in learner.parameters.values()),
        history=(*(first.history if first is not None else ()), *result.history),
        seconds=time.monotonic() - started,
    )


def unfrozen_copy(backbone: Backbone) -> Backbone:
    """The same backbone with a model of its own that can be trained; the given one stays as it is."""
    own = copy.copy(backbone)
    own.model = copy.deepcopy(backbone.model).requires_grad_(True)
    return own


def with_dropout(learner: Learner, material: Material, seed: int) -> Learner:
    """The same learner with the model in training mode while it learns, and a seeded dropout."""
    model = material.backbone.model
    torch.manual_seed(seed)

    def loss(rows: Sequence[int]) -> Tensor:
        model.train()
        return learner.loss(rows)

    def validation() -> Measured:
        model.eval()
        return learner.validation()

    return replace(learner, loss=loss, validation=validation)


def _new_head(backbone: Backbone, task: Task, seed: int) -> nn.Linear | None:
    """A random head on the backbone's device; a text-to-text task has none."""
    if task.kind == "text_to_text":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Linear(backbone.hidden_size, len(task.labels))
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
    return head.to(backbone.device)
