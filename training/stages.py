"""What each stage trains, as learners for `fit`: the head on cached features, an adapter, or a whole model.

Stage one standardises the features (so that one learning rate suits every backbone) and folds that back into
the head. The frozen backbone stays in evaluation mode throughout: no dropout, so cached features are exact.
A task is answered by a head on pooled states (of K pairs for a multiple choice, which gives K scores), or as
text, by the log probabilities of its label strings or by what is written; text has no head and no stage one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modeling import HEADS, Adapter, Backbone, decoding
from training.batches import plain_batches, training_batches
from training.config import Hyper
from training.encode import Rows, all_label_logits, all_states, all_target_logits, all_texts, row_states
from training.fit import Learner, Measured
from training.optim import Group, decay_groups
from training.tasks import FreeText, Logits, Target, Task

_HEAD_BATCH_FACTOR = 2
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True)
class Material:
    """What all stages of a run share. Targets are stacked on the backbone's device.

    `strings` are what a decoder learns to write, one for each train row; a head has none.
    """

    backbone: Backbone
    task: Task
    train: Rows
    validation: Rows
    targets: Tensor
    validation_targets: Sequence[Target]
    class_weights: Tensor | None
    strings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Features:
    """Pooled states of the frozen backbone, train [N, H] and validation [M, H]; [N, K, H] for K choices."""

    train: Tensor
    validation: Tensor


@dataclass(frozen=True)
class Scaling:
    """Mean and spread [H] of the train features."""

    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scaling":
        """Of the rows of [..., H]; a constant feature keeps its size."""
        rows = features.flatten(0, -2)
        spread = rows.std(dim=0, unbiased=False)
        return cls(rows.mean(dim=0), torch.where(spread > _SMALLEST_SPREAD, spread, torch.ones_like(spread)))

    def apply(self, features: Tensor) -> Tensor:
        """[..., H] -> [..., H] with mean 0 and spread 1."""
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

    def loss(rows: Sequence[int]) -> Tensor:
        return _head_loss(material, scaled, train[torch.as_tensor(rows, device=train.device)], rows)

    return Learner(
        task=material.task,
        parameters=_head_parameters(scaled),
        groups=_head_groups(scaled, hyper.head_lr, hyper.head_weight_decay),
        loss=loss,
        validation=lambda: _measured(material, scaled, validation),
        batches=lambda epoch: plain_batches(len(train), batch_size=size, seed=seed, epoch=epoch),
        validation_targets=material.validation_targets,
        exact=train.device.type == "cpu",
    )


def adapter_learner(material: Material, adapter: Adapter, hyper: Hyper, seed: int) -> Learner:
    """Stage two: the adapter's parameters, and the head with them when `hyper.train_head`.

    The adapter must be attached for as long as the learner is used. Body parameters never decay: their
    neutral value (a scale of one, a pre-trained norm) is not zero.
    """
    parameters = {f"body.{index}": p for index, p in enumerate(adapter.body_parameters())}
    groups = [Group(tuple(parameters.values()), hyper.lr)]
    if adapter.head is not None and hyper.train_head:
        parameters |= _head_parameters(adapter.head)
        groups += _head_groups(adapter.head, hyper.lr_head_stage2, hyper.weight_decay)
    return _backbone_learner(material, adapter.head, adapter.virtual_tokens, parameters, groups, hyper, seed)


def full_learner(material: Material, head: nn.Linear | None, hyper: Hyper, seed: int) -> Learner:
    """The baseline: every parameter of the backbone, and the head where there is one."""
    model = dict(material.backbone.model.named_parameters())
    parameters = {f"model.{name}": p for name, p in model.items()}
    groups = list(decay_groups(model.items(), hyper.lr, hyper.weight_decay))
    if head is not None:
        parameters |= _head_parameters(head)
        groups += _head_groups(head, hyper.lr_head_stage2, hyper.weight_decay)
    return _backbone_learner(material, head, 0, parameters, groups, hyper, seed)


def _backbone_learner(
    material: Material,
    head: nn.Linear | None,
    virtual: int,
    parameters: dict[str, nn.Parameter],
    groups: Sequence[Group],
    hyper: Hyper,
    seed: int,
) -> Learner:
    """A learner whose loss runs through the backbone, for `head` or, without one, for label strings."""
    backbone, costs = material.backbone, _row_costs(material, hyper, virtual)

    def batches(epoch: int) -> list[list[int]]:
        return training_batches(
            costs, batch_tokens=hyper.batch_tokens, batch_size=hyper.batch_size, seed=seed, epoch=epoch
        )

    def loss(rows: Sequence[int]) -> Tensor:
        if head is None:
            ids = backbone.label_ids([material.strings[row] for row in rows])
            return decoding.target_loss(backbone, backbone.pack(material.train.take(rows), virtual), ids)
        return _head_loss(
            material, head, row_states(backbone, material.train, rows, hyper.pooling, virtual), rows
        )

    def validation() -> Measured:
        if head is None:
            return _measured_as_text(material, virtual)
        states = all_states(backbone, material.validation, hyper.pooling, virtual=virtual)
        return _measured(material, head, states)

    return Learner(
        task=material.task,
        parameters=parameters,
        groups=groups,
        loss=loss,
        validation=validation,
        batches=batches,
        validation_targets=material.validation_targets,
        exact=backbone.device.type == "cpu",
    )


def head_logits(weight: Tensor, bias: Tensor, states: Tensor) -> Tensor:
    """States [N, H] -> logits [N, L]; states of K choices [N, K, H] -> their scores [N, K]."""
    logits = nn.functional.linear(states, weight, bias)
    return logits.squeeze(-1) if states.ndim == 3 else logits


def to_numpy(logits: Tensor) -> Logits:
    """Float32 on the CPU."""
    values: Logits = logits.float().cpu().numpy()
    return values


def _head_loss(material: Material, head: nn.Linear, states: Tensor, rows: Sequence[int]) -> Tensor:
    logits = head_logits(head.weight, head.bias, states)  # [B, L] or [B, K]
    targets = material.targets[torch.as_tensor(rows, device=material.targets.device)]
    return HEADS[material.task.kind].loss(logits, targets, material.class_weights)


def _measured(material: Material, head: nn.Linear, states: Tensor) -> Measured:
    """Loss with the head as trained, logits with the head in the data's units."""
    task = material.task
    targets = task.stack(material.validation_targets).to(states.device)
    logits = head_logits(head.weight, head.bias, states)
    loss = HEADS[task.kind].loss(logits, targets, material.class_weights)
    in_units = head_logits(*task.to_units(head.weight, head.bias), states)
    return Measured(to_numpy(in_units), float(loss))


def _measured_as_text(material: Material, virtual: int) -> Measured:
    """By the label strings; or, of free text, what greedy generation writes, with the answers' loss."""
    task, rows = material.task, material.validation
    if not isinstance(task, FreeText):
        return _measured_strings(material, virtual)
    num_tokens = sum(len(text.target) for text in rows.encoded)
    loss = -all_target_logits(material.backbone, rows, virtual).sum() / num_tokens
    texts = all_texts(material.backbone, rows, task.longest, virtual)
    return Measured(task.row_scores(texts, material.validation_targets), float(loss))


def _measured_strings(material: Material, virtual: int) -> Measured:
    """Log probabilities of all label strings; the loss is that of the right one per token, as in training."""
    backbone, labels = material.backbone, material.task.labels
    logits = all_label_logits(backbone, material.validation, labels, virtual)  # [N, L]
    right = material.task.stack(material.validation_targets).to(logits.device)
    num_tokens = torch.tensor([len(ids) for ids in backbone.label_ids(labels)], device=logits.device)
    loss = -logits.gather(1, right[:, None]).sum() / num_tokens[right].sum()
    return Measured(to_numpy(logits), float(loss))


def _row_costs(material: Material, hyper: Hyper, virtual: int) -> list[int]:
    """Tokens that a train row costs: its texts, virtual tokens, and what the decoder reads."""
    rows = material.train
    costs = [length + virtual * rows.per_row for length in rows.lengths]
    if hyper.pooling == "eos":
        return [cost + length for cost, length in zip(costs, rows.lengths, strict=True)]
    if material.task.kind != "text_to_text":
        return costs
    different = list(set(material.strings))  # of label strings there are few
    num_tokens = dict(zip(different, map(len, material.backbone.label_ids(different)), strict=True))
    return [cost + num_tokens[text] for cost, text in zip(costs, material.strings, strict=True)]


def _head_parameters(head: nn.Linear) -> dict[str, nn.Parameter]:
    return {f"head.{name}": parameter for name, parameter in head.named_parameters()}


def _head_groups(head: nn.Linear, lr: float, weight_decay: float) -> list[Group]:
    return list(decay_groups(head.named_parameters(), lr, weight_decay))
