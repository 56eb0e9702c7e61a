"""Learners that share a pass learn what they learn alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modeling import FAMILIES, METHODS, Adapter, Backbone, HeadSpec, SideBySide, Wanted, readout_of
from modeling.packed import joined
from tests.conformance import checks
from tests.conformance.options import tiny_options
from tests.tiny import random_texts, tiny_backbone
from tests.unit.training.conftest import counted, quick, write_task
from training.data.load import load_data
from training.errors import TrainingFailedError
from training.loop.fit import StagePlan, StageResult, fit
from training.loop.journal import NoJournal
from training.loop.precision import RoundedProducts
from training.loop.progress import NullProgress
from training.loop.stages import Material, adapter_learner, room_for
from training.loop.together import Member, fit_together
from training.run import prepare
from training.settings.config import resolve

PER_ROW = [method for method in METHODS if not checks.exclusive(method)]
LABELS = ("low", "middle", "high")


def moved(backbone: Backbone, method: str, spec: HeadSpec, **options: Any) -> Adapter:
    """An adapter away from its start."""
    adapter = Adapter.create(backbone, METHODS[method].from_config(tiny_options(method) | options), spec)
    with torch.no_grad():
        for parameter in adapter.body_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return adapter


def parameters(adapter: Adapter) -> list[torch.nn.Parameter]:
    head = adapter.head
    return [*adapter.body_parameters(), *([] if head is None else head.parameters())]


def specs_on(backbone: Backbone) -> list[HeadSpec]:
    """A head of each pooling, and strings where there is a decoder."""
    heads = [HeadSpec("single_label", LABELS, pooling=pooling) for pooling in backbone.poolings]
    text = HeadSpec("text_to_text", ("w1", "w2", "w3"), pooling="none")
    return [*heads, text] if backbone.is_encoder_decoder else heads


class Rows:
    """The rows of one adapter, with what they should be answered."""

    def __init__(self, backbone: Backbone, adapter: Adapter, seed: int) -> None:
        texts = random_texts(3 + seed % 3, seed)
        self.batch = backbone.pack(backbone.text.encode(texts, 24), adapter.virtual_tokens)
        targets = torch.arange(len(texts)) % 3
        ids = backbone.label_ids(["w1", "w2", "w3"]) if backbone.is_encoder_decoder else []
        self.wanted = Wanted(targets, None, [ids[target] for target in targets.tolist()] if ids else [])


def alone(backbone: Backbone, adapter: Adapter, rows: Rows) -> list[Tensor | None]:
    with adapter.attached(backbone):
        loss = readout_of(adapter.spec).loss(backbone, rows.batch, adapter.spec, adapter.head, rows.wanted)
        return [loss.detach(), *torch.autograd.grad(loss, parameters(adapter), allow_unused=True)]


def together(
    backbone: Backbone, adapters: Sequence[Adapter], rows: Sequence[Rows]
) -> list[list[Tensor | None]]:
    side = SideBySide(backbone, adapters)
    with side.attached(), side.running({n: own.batch for n, own in enumerate(rows)}) as hidden:
        losses = []
        for number, (adapter, own) in enumerate(zip(adapters, rows, strict=True)):
            with side.alone(number):
                readout, spec = readout_of(adapter.spec), adapter.spec
                states = hidden[number]
                losses.append(readout.loss_of(backbone, states, own.batch, spec, adapter.head, own.wanted))
    flat = [parameter for adapter in adapters for parameter in parameters(adapter)]
    found = iter(torch.autograd.grad(torch.stack(losses).sum(), flat, allow_unused=True))
    return [
        [loss.detach(), *(next(found) for _ in parameters(adapter))]
        for loss, adapter in zip(losses, adapters, strict=True)
    ]


def assert_the_same(found: Sequence[Tensor | None], wanted: Sequence[Tensor | None], name: str) -> None:
    assert [tensor is None for tensor in found] == [tensor is None for tensor in wanted], name
    for one, other in zip(found, wanted, strict=True):
        if one is not None and other is not None:
            assert float((one - other).norm()) <= 1e-5 * max(1.0, float(other.norm())), name


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_beside_all_others_has_the_gradients_of_training_alone(family: str) -> None:
    backbone = tiny_backbone(family)
    specs = specs_on(backbone)
    named = [m for m in [*PER_ROW, "hadamard", "compacter"] if m != "linear_probe"]
    adapters = [moved(backbone, method, specs[n % len(specs)]) for n, method in enumerate(named)]
    adapters.append(moved(backbone, "linear_probe", specs[0]))
    rows = [Rows(backbone, adapter, seed) for seed, adapter in enumerate(adapters)]
    found = together(backbone, adapters, rows)
    for adapter, own, got in zip(adapters, rows, found, strict=True):
        assert_the_same(got, alone(backbone, adapter, own), adapter.method.name)


@pytest.mark.parametrize("method", [m for m in METHODS if checks.exclusive(m)])
def test_a_method_with_other_weights_is_refused(method: str) -> None:
    backbone = tiny_backbone("t5")
    adapter = moved(backbone, method, HeadSpec("text_to_text", ("w1", "w2"), pooling="none"))
    with pytest.raises(ValueError, match=f"{method} changes the weights"):
        SideBySide(backbone, [adapter])


def test_batches_that_begin_at_different_layers_are_not_joined(tmp_path: Path) -> None:
    parts = material(tiny_backbone("bert"), tmp_path)
    member = member_of(parts, 0, kept=True, layers=[1])
    assert member.below is not None
    assert member.below.train is not None
    batch = parts.backbone.pack(parts.train.take([0, 1]))
    with pytest.raises(ValueError, match="different layers"):
        joined([batch, member.below.train.enter(batch, [0, 1], torch.float32)])


def material(backbone: Backbone, tmp_path: Path, kind: str = "single_sentence") -> Material:
    config = quick(write_task(tmp_path / kind, kind), tmp_path / "o")
    return prepare(config, resolve(config), load_data(config), backbone)[0]


def member_of(
    parts: Material,
    seed: int,
    method: str = "hadamard",
    *,
    epochs: int = 3,
    lr: float = 5e-3,
    kept: bool = False,
    **options: Any,
) -> Member:
    made = METHODS[method].from_config(tiny_options(method) | options)
    adapter = Adapter.create(parts.backbone, made, parts.spec, seed=seed)
    hyper = replace(resolve(quick(Path(), Path())), lr=lr)
    below = room_for(parts, adapter, NullProgress(), rounded=False) if kept else None
    learner = adapter_learner(parts, adapter, hyper, seed, below=below)
    plan = StagePlan(f"adapter {seed}", epochs, 0.1)
    return Member(plan=plan, learner=learner, material=parts, adapter=adapter, below=below)


def fit_alone(member: Member) -> StageResult:
    with member.adapter.attached(member.material.backbone):
        return fit(member.plan, member.learner, NullProgress(), NoJournal())


def assert_learnt_the_same(found: object, wanted: StageResult) -> None:
    assert isinstance(found, StageResult)
    assert [record.epoch for record in found.history] == [record.epoch for record in wanted.history]
    for one, other in zip(found.history, wanted.history, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-3)
        assert one.loss is None or one.loss == pytest.approx(other.loss, rel=1e-3)


def test_seeds_methods_tasks_and_lengths_each_end_as_alone(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    pairs, numbers = (material(backbone, tmp_path, kind) for kind in ("sentence_pair", "regression"))
    plain = material(backbone, tmp_path)

    def members() -> list[Member]:
        return [
            member_of(plain, 0),
            member_of(plain, 1, epochs=1),
            member_of(numbers, 2, "compacter", epochs=4),
            member_of(pairs, 3, "prompt_tuning"),
            member_of(plain, 0, "lora", lr=1e-2),
        ]

    for found, wanted in zip(fit_together(members()), map(fit_alone, members()), strict=True):
        assert_learnt_the_same(found, wanted)


def test_a_learner_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    parts = material(tiny_backbone("bert"), tmp_path)
    failing, good = member_of(parts, 0, lr=1e30), member_of(parts, 1)
    failed, found = fit_together([failing, good])
    assert isinstance(failed, TrainingFailedError)
    assert "lower the learning rate" in str(failed)
    assert_learnt_the_same(found, fit_alone(member_of(parts, 1)))
    assert all(bool(torch.isfinite(p).all()) for p in good.adapter.body_parameters())


def test_learners_that_all_begin_at_a_layer_do_so_together(tmp_path: Path) -> None:
    parts = material(tiny_backbone("bert"), tmp_path)
    members = [member_of(parts, seed, kept=True, layers=[1]) for seed in (0, 1)]
    with counted(parts.backbone.layers[0]) as calls:
        found = fit_together(members)
    assert calls == []
    for seed, one in enumerate(found):
        assert_learnt_the_same(one, fit_alone(member_of(parts, seed, layers=[1])))


def test_one_that_needs_the_whole_pass_gives_it_to_all(tmp_path: Path) -> None:
    parts = material(tiny_backbone("bert"), tmp_path)
    found = fit_together([member_of(parts, 0, kept=True, layers=[1]), member_of(parts, 1, kept=True)])
    assert_learnt_the_same(found[0], fit_alone(member_of(parts, 0, layers=[1])))
    assert_learnt_the_same(found[1], fit_alone(member_of(parts, 1)))


def test_products_are_rounded_for_all(tmp_path: Path) -> None:
    parts = material(tiny_backbone("bert"), tmp_path)
    found = fit_together([member_of(parts, 0)], RoundedProducts(parts.backbone.model))[0]
    wanted = fit_alone(member_of(parts, 0))
    assert isinstance(found, StageResult)
    assert found.history[-1].loss != wanted.history[-1].loss
    assert found.history[-1].loss == pytest.approx(wanted.history[-1].loss, rel=0.05)
