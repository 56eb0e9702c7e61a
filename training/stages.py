"""What each stage trains, as learners for `fit`: the head on cached features, an adapter, or a whole model.

Stage one standardises the features (so that one learning rate suits every backbone) and folds that back into
the head. The frozen backbone stays in evaluation mode throughout: no dropout, so cached features are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modeling import Adapter, Backbone
from training.batches import plain_batches, training_batches
from training.config import Hyper
from training.encode import Rows, all_states, pooled_states
from training.fit import Learner
from training.optim import Group, decay_groups
from training.tasks import Target, Task

_HEAD_BATCH_FACTOR = 2
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class Material:
    """What all stages of a run share. Targets are stacked on the backbone's device."""

    backbone: Backbone
    task: Task
    train: Rows
    validation: Rows
    targets: Tensor
    validation_targets: Sequence[Target]
    class_weights: Tensor | None


@dataclass(frozen=True)
class Features:
    """Pooled states of the frozen backbone, train [N, H] and validation [M, H]."""

    train: Tensor
    validation: Tensor


@dataclass(frozen=True)
class Scaling:
    """Mean and spread [H] of the train features."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scaling":
        """Of the rows of [N, H]; a constant feature keeps its size."""
        spread = features.std(dim=0, unbiased=False)
        return cls(
            features.mean(dim=0), torch.where(spread > _SMALLEST_SPREAD, spread, torch.ones_like(spread))
        )

    def apply(self, features: Tensor) -> Tensor:
        """[N, H] -> [N, H] with mean 0 and spread 1."""
        return (features - self.mean) / self.spread

    def fold(self, scaled: nn.Linear, head: nn.Linear) -> None:
        """Write into `head`, for raw features, what `scaled` computes on scaled ones."""
        with torch.no_grad():
            weight = scaled.weight / self.spread
            head.weight.copy_(weight)
            head.bias.copy_(scaled.bias - weight @ self.mean)


def head_learner(
    material: Material, features: Features, scaled: nn.Linear, scaling: Scaling, hyper: Hyper, seed: int
) -> Learner:
    """Stage one: `scaled` [H -> L] on the scaled features, started at zero (the problem is convex)."""
    nn.init.zeros_(scaled.weight)
    nn.init.zeros_(scaled.bias)
    train, validation = scaling.apply(features.train), scaling.apply(features.validation)
    size = hyper.batch_size * _HEAD_BATCH_FACTOR
    return Learner(
        task=material.task,
        head=scaled,
        parameters=_head_parameters(scaled),
        groups=_head_groups(scaled, hyper.head_lr, hyper.head_weight_decay),
        pooled=lambda rows: train[torch.as_tensor(rows, device=train.device)],
        validation=lambda: validation,
        batches=lambda epoch: plain_batches(len(train), batch_size=size, seed=seed, epoch=epoch),
        targets=material.targets,
        validation_targets=material.validation_targets,
        class_weights=material.class_weights,
    )


def adapter_learner(material: Material, adapter: Adapter, hyper: Hyper, seed: int) -> Learner:
    """Stage two: the parameters at the taps, and the head with them when `hyper.train_head`.

    The adapter must be attached for as long as the learner is used. Body parameters never decay: their
    neutral value (a scale of one, a pre-trained norm) is not zero.
    """
    body = {f"body.{index}": p for index, p in enumerate(adapter.body_parameters())}
    head = _head_parameters(adapter.head) if hyper.train_head else {}
    groups = [Group(tuple(body.values()), hyper.lr)]
    if hyper.train_head:
        groups += _head_groups(adapter.head, hyper.lr_head_stage2, hyper.weight_decay)
    return _text_learner(material, adapter.head, {**body, **head}, groups, hyper, seed)


def full_learner(material: Material, head: nn.Linear, hyper: Hyper, seed: int) -> Learner:
    """The baseline: every parameter of the backbone and the head."""
    model = dict(material.backbone.model.named_parameters())
    groups = [
        *decay_groups(model.items(), hyper.lr, hyper.weight_decay),
        *_head_groups(head, hyper.lr_head_stage2, hyper.weight_decay),
    ]
    parameters = {**{f"model.{name}": p for name, p in model.items()}, **_head_parameters(head)}
    return _text_learner(material, head, parameters, groups, hyper, seed)


def _text_learner(
    material: Material,
    head: nn.Linear,
    parameters: dict[str, nn.Parameter],
    groups: Sequence[Group],
    hyper: Hyper,
    seed: int,
) -> Learner:
    backbone, lengths = material.backbone, material.train.lengths

    def batches(epoch: int) -> list[list[int]]:
        return training_batches(
            lengths, batch_tokens=hyper.batch_tokens, batch_size=hyper.batch_size, seed=seed, epoch=epoch
        )

    return Learner(
        task=material.task,
        head=head,
        parameters=parameters,
        groups=groups,
        pooled=lambda rows: pooled_states(backbone, material.train.take(rows), hyper.pooling),
        validation=lambda: all_states(backbone, material.validation, hyper.pooling),
        batches=batches,
        targets=material.targets,
        validation_targets=material.validation_targets,
        class_weights=material.class_weights,
    )


def _head_parameters(head: nn.Linear) -> dict[str, nn.Parameter]:
    return {f"head.{name}": parameter for name, parameter in head.named_parameters()}


def _head_groups(head: nn.Linear, lr: float, weight_decay: float) -> list[Group]:
    return list(decay_groups(head.named_parameters(), lr, weight_decay))
