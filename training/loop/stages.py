"""What a run learns from, what heads read of it, and stage two as a learner for `fit`.

The frozen backbone stays in evaluation mode throughout: no dropout, so cached features are exact. A task
without a head has no stage one.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modeling import Adapter, Backbone, HeadSpec, Readout, Wanted, readout_of
from training.loop.batches import training_batches
from training.loop.encode import Rows, state_batches
from training.loop.fit import Evaluation, Learner, judged
from training.loop.optim import Group, decay_groups
from training.loop.passes import Answered, features, packed_rows, trained
from training.loop.precision import RoundedProducts
from training.loop.prefix import Below, fill, lowest_layer, room_below
from training.loop.progress import Progress
from training.loop.states import States
from training.settings.config import Hyper
from training.tasks import Logits, Target, Task


@dataclass(frozen=True)
class Material:
    """What all stages of a run share; `wanted` is on the backbone's device."""

    backbone: Backbone
    task: Task
    spec: HeadSpec
    train: Rows
    validation: Rows
    wanted: Wanted
    validation_wanted: Wanted
    validation_targets: Sequence[Target]

    @property
    def readout(self) -> Readout:
        return readout_of(self.spec)

    def measured(self, answered: Answered) -> tuple[Logits, float]:
        """Of the validation rows: what the metrics judge, in the data's units, and the mean loss."""
        logits = torch.from_numpy(answered.logits).to(self.backbone.device)
        loss = float(self.readout.measured_loss(self.spec, logits, self.validation_wanted))
        in_units = self.task.in_units(answered.logits)
        return self.task.found(in_units, answered.texts, self.validation_targets, answered.embedded), loss


@dataclass(frozen=True)
class Features:
    """What heads read of the frozen backbone."""

    train: States
    validation: States


def measured_head(material: Material, states: States, weight: Tensor, bias: Tensor) -> Evaluation:
    """How a head [L, F], [L] does on the states of the validation rows."""
    logits = states.by_row(states.values @ weight.t() + bias)
    found, loss = material.measured(Answered(logits.float().cpu().numpy()))
    return judged(material.task, found, loss, material.validation_targets)


def adapted_features(
    material: Material,
    adapter: Adapter,
    progress: Progress,
    below: Below | None = None,
    products: RoundedProducts | None = None,
) -> Features:
    """What a head reads of both splits under an adapter, which must be attached.

    Those of train rows come from rounded `products` where they are given, as the frozen ones do.
    """
    below, virtual = below or Below(), adapter.virtual_tokens
    train = material.train, below.train, products
    splits = train, (material.validation, below.validation, None)
    progress.begin("refit", sum(len(state_batches(rows)) for rows, _, _ in splits))
    found = [
        features(
            material.backbone,
            rows,
            material.spec,
            lambda: progress.step(None),
            virtual=virtual,
            enter=kept,
            products=rounded,
        )
        for rows, kept, rounded in splits
    ]
    progress.end("refit")
    return Features(*found)


def frozen_features(
    material: Material,
    progress: Progress,
    below: Below | None = None,
    products: RoundedProducts | None = None,
) -> Features:
    """What the head reads of both splits without any adapter; the same passes fill what is kept `below`.

    Those of train rows come from rounded `products` where they are given; what is measured never does.
    """
    num_batches = sum(len(state_batches(rows)) for rows in (material.train, material.validation))
    progress.begin("features", num_batches)
    below = below or Below()
    splits = (material.train, below.train, products), (material.validation, below.validation, None)
    found = [
        features(
            material.backbone, rows, material.spec, lambda: progress.step(None), below=kept, products=rounded
        )
        for rows, kept, rounded in splits
    ]
    progress.end("features")
    return Features(*found)


def room_for(material: Material, adapter: Adapter, progress: Progress, *, rounded: bool) -> Below:
    """Room for what enters the lowest layer on which the adapter acts, of both splits; what lacks is told."""
    layer = lowest_layer(material.backbone, adapter)
    below = room_below(material.backbone, material.train, material.validation, layer, rounded=rounded)
    for message in below.told:
        progress.tell(message)
    return below


def adapter_learner(
    material: Material,
    adapter: Adapter,
    hyper: Hyper,
    seed: int,
    *,
    below: Below | None = None,
    products: RoundedProducts | None = None,
) -> Learner:
    """Stage two: the adapter's parameters, and the head with them when `hyper.train_head`.

    The adapter must be attached for as long as the learner is used. Body parameters never decay: their
    neutral value (a scale of one, a pre-trained norm) is not zero. All passes begin with what is kept `below`
    a layer, those that train use rounded `products`. Raises ValueError if the adapter acts below that layer.
    """
    below = below or Below()
    if below.layer > lowest_layer(material.backbone, adapter):
        raise ValueError(f"an adapter acts below layer {below.layer}, where passes begin: this is a bug")
    for rows, kept in ((material.train, below.train), (material.validation, below.validation)):
        if kept is not None:
            fill(material.backbone, rows, kept)
    parameters = {f"body.{index}": p for index, p in enumerate(adapter.body_parameters())}
    groups = [Group(tuple(parameters.values()), hyper.lr)]
    if adapter.head is not None and hyper.train_head:
        of_head = _head_parameters(adapter.head)
        parameters |= of_head
        groups += decay_groups(list(of_head.values()), hyper.lr_head_stage2, hyper.weight_decay)
    backbone, costs = material.backbone, _row_costs(material, adapter)

    def loss(rows: Sequence[int]) -> Tensor:
        batch = packed_rows(backbone, material.train, rows, adapter.virtual_tokens, below.train)
        wanted = material.wanted.take(rows)
        with nullcontext() if products is None else products.used():
            return material.readout.loss(backbone, batch, material.spec, adapter.head, wanted)

    def batches(epoch: int) -> list[list[int]]:
        return training_batches(
            costs, batch_tokens=hyper.batch_tokens, batch_size=hyper.batch_size, seed=seed, epoch=epoch
        )

    return Learner(
        task=material.task,
        parameters=parameters,
        groups=groups,
        loss=loss,
        validation=lambda: material.measured(
            trained(backbone, adapter, material.validation, below.validation)
        ),
        batches=batches,
        validation_targets=material.validation_targets,
        exact=backbone.device.type == "cpu",
    )


def _row_costs(material: Material, adapter: Adapter) -> list[int]:
    """Tokens that a train row costs: its texts, virtual tokens, and what the decoder reads."""
    rows, strings = material.train, material.wanted.strings
    per_token = 1 + material.readout.cost(material.spec, (), material.backbone).per_token
    virtual = adapter.virtual_tokens * rows.per_row
    decoded = [len(ids) for ids in strings] or [0] * len(rows)
    return [length * per_token + virtual + read for length, read in zip(rows.lengths, decoded, strict=True)]


def _head_parameters(head: nn.Linear) -> dict[str, nn.Parameter]:
    return {f"head.{name}": parameter for name, parameter in head.named_parameters()}
