"""A task of random texts and labels: what a training step costs does not depend on what they say."""

import random

import torch

from benchmarks import turns
from modeling import METHODS, Adapter, Backbone, Wanted
from training.loop.encode import Rows
from training.loop.stages import Material
from training.metrics.scores import SINGLE_LABEL, all_metrics
from training.settings.config import Hyper, TrainConfig, resolve
from training.tasks.single_label import SingleLabel

LABELS = tuple(f"c{i}" for i in range(8))


def material_on(backbone: Backbone, rows: int, seed: int = 0) -> Material:
    """`rows` train rows of lognormal lengths, and 8 validation rows that nobody looks at."""
    rng = random.Random(seed)
    vocabulary = (1000, backbone.config.vocab_size)
    train, validation = (
        Rows(tuple(turns.random_texts(count, rng, [101], vocabulary, 102))) for count in (rows, 8)
    )
    task = SingleLabel.build(LABELS, all_metrics(None, SINGLE_LABEL, LABELS), None)
    targets = [[rng.randrange(len(LABELS)) for _ in range(count)] for count in (rows, 8)]
    wanted = [Wanted(torch.tensor(own, device=backbone.device)) for own in targets]
    return Material(
        backbone=backbone,
        task=task,
        spec=task.spec("mean"),
        train=train,
        validation=validation,
        wanted=wanted[0],
        validation_wanted=wanted[1],
        validation_targets=targets[1],
    )


def adapter_on(material: Material, method: str, seed: int = 0, **options: object) -> Adapter:
    """A new adapter for it."""
    made = METHODS[method].from_config(options)
    return Adapter.create(material.backbone, made, material.spec, seed=seed)


def settings(batch_size: int) -> Hyper:
    """Those that a learner reads; batches are cut by their number of rows alone."""
    config = TrainConfig(data="none", task="none", batch_size=batch_size, batch_tokens=1_000_000)
    return resolve(config)
