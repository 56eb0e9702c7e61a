"""What each stage trains and measures, and nothing that should stay as it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modeling import METHODS, Adapter, Backbone, HeadSpec, TextItem
from tests.tiny import pooled_states, tiny_backbone
from tests.unit.training.conftest import quick, write_task, write_text_task
from training.data.load import load_data
from training.errors import ConfigError
from training.learning.material import prepare
from training.loop.encode import Rows, encode_items
from training.loop.fit import StagePlan, fit
from training.loop.journal import NoJournal
from training.loop.passes import features, trained
from training.loop.precision import RoundedProducts
from training.loop.progress import NullProgress
from training.loop.stages import (
    Material,
    adapter_learner,
    frozen_features,
    measured_head,
    room_for,
)
from training.loop.states import States
from training.rows.items import ChoiceItem, Item, texts_of
from training.settings.config import resolve


def material(backbone: Backbone, tmp_path: Path, **changes: Any) -> Material:
    config = quick(write_task(tmp_path / "d", "single_sentence"), tmp_path / "o", **changes)
    return prepare(config, resolve(config), load_data(config), backbone)[0]


def states_of(backbone: Backbone, rows: Rows) -> States:
    return features(backbone, rows, HeadSpec("single_label", ("a", "b")), lambda: None)


def test_features_are_the_states_of_each_row_alone(backbone: Backbone) -> None:
    texts: list[TextItem] = ["w1 w2 w3", "w4", ("w5 w6", "w7"), "", "w9 " * 40]
    rows = encode_items(backbone, texts, 32)
    states = states_of(backbone, rows)
    for index in range(len(texts)):
        alone = pooled_states(backbone, backbone.pack(rows.of(index)), "mean")
        torch.testing.assert_close(states.take([index]).values, alone, rtol=1e-5, atol=1e-5)
    assert rows.num_truncated == 1


def adapter_of(backbone: Backbone, method: str = "hadamard") -> Adapter:
    spec = HeadSpec("single_label", ("low", "middle", "high"))
    return Adapter.create(backbone, METHODS[method].from_config({}), spec, seed=0)


def test_body_parameters_never_decay(backbone: Backbone, tmp_path: Path) -> None:
    config = quick(tmp_path, tmp_path, weight_decay=0.5)
    adapter = adapter_of(backbone)
    learner = adapter_learner(material(backbone, tmp_path), adapter, resolve(config), 0)
    body = {id(p) for p in adapter.body_parameters()}
    decays = {id(p): group.weight_decay for group in learner.groups for p in group.parameters}
    assert all(decays[key] == 0.0 for key in body)
    assert adapter.head is not None
    assert decays[id(adapter.head.weight)] == 0.5
    assert decays[id(adapter.head.bias)] == 0.0


def test_body_and_head_have_rates_and_decays_of_their_own(backbone: Backbone, tmp_path: Path) -> None:
    hyper = resolve(quick(tmp_path, tmp_path, lr=0.02, lr_head_stage2=0.003, weight_decay=0.5))
    adapter, parts = adapter_of(backbone), material(backbone, tmp_path)
    assert adapter.head is not None
    learner = adapter_learner(parts, adapter, hyper, 0)
    rates = {id(p): (group.lr, group.weight_decay) for group in learner.groups for p in group.parameters}
    assert {rates[id(p)] for p in adapter.body_parameters()} == {(0.02, 0.0)}
    assert rates[id(adapter.head.weight)] == (0.003, 0.5)
    assert rates[id(adapter.head.bias)] == (0.003, 0.0)
    assert len(rates) == len(learner.parameters) == len(adapter.body_parameters()) + 2
    assert learner.exact


def last_layer(backbone: Backbone) -> Adapter:
    spec = HeadSpec("single_label", ("low", "middle", "high"))
    return Adapter.create(backbone, METHODS["hadamard"].from_config({"layers": [1]}), spec, seed=0)


def test_a_stage_that_begins_at_the_adapted_layer_learns_the_same(backbone: Backbone, tmp_path: Path) -> None:
    hyper = resolve(quick(tmp_path, tmp_path))
    parts, found = material(backbone, tmp_path), []
    for kept in (False, True):
        adapter = last_layer(backbone)
        below = room_for(parts, adapter, NullProgress(), rounded=False) if kept else None
        with adapter.attached(backbone):
            learner = adapter_learner(parts, adapter, hyper, 0, below=below)
            found.append(fit(StagePlan("adapter", 3, 0.1), learner, NullProgress(), NoJournal()))
    whole, begun = found
    assert whole.history[-1].loss != whole.history[1].loss
    for one, other in zip(whole.history, begun.history, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-4)
        assert one.loss is None or one.loss == pytest.approx(other.loss, rel=1e-4)


def test_features_fill_what_the_adapter_stage_begins_with(backbone: Backbone, tmp_path: Path) -> None:
    parts = material(backbone, tmp_path)
    below = room_for(parts, last_layer(backbone), NullProgress(), rounded=False)
    frozen_features(parts, NullProgress(), below)
    assert below.train is not None
    assert below.validation is not None
    assert below.train.known.all()
    assert below.validation.known.all()


def test_an_adapter_below_the_layer_where_passes_begin_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    parts, adapter = material(backbone, tmp_path), adapter_of(backbone)
    below = room_for(parts, last_layer(backbone), NullProgress(), rounded=False)
    with pytest.raises(ValueError, match="acts below layer 1"):
        adapter_learner(parts, adapter, resolve(quick(tmp_path, tmp_path)), 0, below=below)


def test_a_step_with_rounded_products_is_measured_without(backbone: Backbone, tmp_path: Path) -> None:
    parts, adapter = material(backbone, tmp_path), adapter_of(backbone)
    hyper, products = resolve(quick(tmp_path, tmp_path)), RoundedProducts(backbone.model)
    plain = adapter_learner(parts, adapter, hyper, 0)
    rounded = adapter_learner(parts, adapter, hyper, 0, products=products)
    with adapter.attached(backbone), torch.no_grad():
        assert rounded.loss([0, 1, 2]) != plain.loss([0, 1, 2])
        assert rounded.validation()[1] == plain.validation()[1]
    given = frozen_features(parts, NullProgress(), products=products)
    exact = frozen_features(parts, NullProgress())
    assert not torch.equal(given.train.values, exact.train.values)
    assert torch.equal(given.validation.values, exact.validation.values)


def test_a_head_is_measured_on_the_states_of_validation_rows(backbone: Backbone, tmp_path: Path) -> None:
    parts = material(backbone, tmp_path)
    states = states_of(backbone, parts.validation)
    weight, bias = torch.randn(3, 32), torch.randn(3)
    found = measured_head(parts, states, weight, bias)
    logits = nn.functional.linear(states.values, weight, bias)
    torch.testing.assert_close(torch.from_numpy(found.logits), logits)
    targets = torch.tensor(parts.validation_targets)
    assert found.loss == pytest.approx(nn.functional.cross_entropy(logits, targets).item())
    assert found.value == (logits.argmax(1) == targets).double().mean().item()


@pytest.mark.parametrize("pooling", ["mean", "eos"])
def test_a_batch_is_paid_in_all_tokens_that_are_read(pooling: str, tmp_path: Path) -> None:
    """Texts, virtual tokens in front of each, and the text once more where the decoder reads it."""
    backbone = tiny_backbone("bert" if pooling == "mean" else "t5")
    parts = material(backbone, tmp_path, pooling=pooling)
    spec = HeadSpec("single_label", ("low", "middle", "high"), pooling=pooling)
    adapter = Adapter.create(backbone, METHODS["prompt_tuning"].from_config({"tokens": 7}), spec)
    hyper = replace(resolve(quick(tmp_path, tmp_path, batch_tokens=60, batch_size=50)), pooling=pooling)
    lengths = parts.train.lengths
    reads = 1 if pooling == "mean" else 2
    batches = adapter_learner(parts, adapter, hyper, 0).batches(1)
    costs = [sum(reads * lengths[row] + 7 for row in batch) for batch in batches]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(cost <= 60 or len(batch) == 1 for cost, batch in zip(costs, batches, strict=True))
    assert max(costs) > 40


def test_a_batch_is_paid_in_the_strings_that_are_learnt(tmp_path: Path) -> None:
    backbone = tiny_backbone("t5")
    config = quick(write_text_task(tmp_path / "d"), tmp_path / "o", form="text-to-text", targets="words")
    parts = prepare(config, resolve(config), load_data(config), backbone)[0]
    spec = HeadSpec("text_to_text", parts.task.labels, pooling="none")
    adapter = Adapter.create(backbone, METHODS["hadamard"].from_config({}), spec)
    strings = [len(ids) for ids in parts.wanted.strings]
    costs = [text + string for text, string in zip(parts.train.lengths, strings, strict=True)]
    hyper = replace(resolve(config), batch_tokens=60, batch_size=50)
    totals = [
        sum(costs[row] for row in batch) for batch in adapter_learner(parts, adapter, hyper, 0).batches(1)
    ]
    assert sum(totals) == sum(costs)
    assert max(totals) <= 60
    assert sum(total > 60 - min(costs) - 12 for total in totals) > len(totals) / 2, "they are filled"


def test_one_step_moves_the_adapter_and_nothing_of_the_backbone(backbone: Backbone, tmp_path: Path) -> None:
    before = {name: p.clone() for name, p in backbone.model.state_dict().items()}
    adapter, config = adapter_of(backbone), quick(tmp_path, tmp_path)
    parts = material(backbone, tmp_path)
    with adapter.attached(backbone):
        learner = adapter_learner(parts, adapter, resolve(config), 0)
        learner.loss([0, 1, 2, 3]).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert all(p.grad is not None and bool(p.grad.any()) for p in adapter.body_parameters())
    assert all(p.grad is None for p in backbone.model.parameters())
    after = backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_frozen_head_is_not_among_the_parameters(backbone: Backbone, tmp_path: Path) -> None:
    config = quick(tmp_path, tmp_path, train_head=False)
    adapter = adapter_of(backbone)
    learner = adapter_learner(material(backbone, tmp_path), adapter, resolve(config), 0)
    assert not any(name.startswith("head") for name in learner.parameters)
    assert sum(len(group.parameters) for group in learner.groups) == len(adapter.body_parameters())


def test_full_trains_every_parameter_of_a_copy(backbone: Backbone, tmp_path: Path) -> None:
    adapter = adapter_of(backbone, "full")
    learner = adapter_learner(material(backbone, tmp_path), adapter, resolve(quick(tmp_path, tmp_path)), 0)
    assert sum(p.numel() for p in learner.parameters.values()) == backbone.num_parameters + 32 * 3 + 3
    assert all(p.requires_grad for p in learner.parameters.values())
    assert not any(p.requires_grad for p in backbone.model.parameters())
    shared = {p.data_ptr() for p in adapter.body_parameters()} & {
        p.data_ptr() for p in backbone.model.parameters()
    }
    assert not shared


def choices(count: int) -> list[Item]:
    return [ChoiceItem(f"w{i} w{i + 1}", (f"w{i}", f"w{i + 2} w{i + 3} w{i}", "w9")) for i in range(count)]


def test_features_of_choices_are_those_of_each_pair_alone(backbone: Backbone) -> None:
    rows = encode_items(backbone, choices(5), 32)
    assert (len(rows), rows.per_row, len(rows.encoded)) == (5, 3, 15)
    assert rows.lengths == [sum(map(len, rows.of(row))) for row in range(5)]
    states = states_of(backbone, rows)
    assert (states.values.shape, states.counts.tolist()) == ((15, 32), [3] * 5)
    pairs = encode_items(backbone, [pair for item in choices(5) for pair in texts_of(item)], 32)
    torch.testing.assert_close(states.values, states_of(backbone, pairs).values)
    method, spec = METHODS["hadamard"].from_config({}), HeadSpec("multiple_choice", ("choice",))
    adapter = Adapter.create(backbone, method, spec, seed=0)
    with adapter.attached(backbone):
        scores = torch.from_numpy(trained(backbone, adapter, rows).logits)
    assert scores.shape == (5, 3)
    assert adapter.head is not None
    torch.testing.assert_close(scores[2, 1], adapter.head(states.values[7])[0].detach())


def test_virtual_tokens_count_in_the_limit(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="positions for 64, of which the method takes 40: lower it"):
        encode_items(backbone, ["w1"], 32, virtual=40)
    rows = encode_items(backbone, ["w1 w2"], 24, virtual=40)
    assert rows.lengths == [4]
