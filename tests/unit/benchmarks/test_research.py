"""The research scripts on made-up tasks and a tiny backbone: each runs whole and resumes; what tables say."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import (
    record,
    research_bench,
    research_hadamard,
    research_layers,
    research_pool,
    research_sharing,
    research_tables,
)
from benchmarks.research_bench import Bench, Given
from benchmarks.research_pool import Asked
from modeling import Adapter, Backbone
from tests.integration_training.conftest import save_tiny
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import write_task

MODULES = (research_layers, research_sharing, research_hadamard)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Three small tasks in place of the public ones, results in a folder of their own."""
    for name, kind in (("a", "single_sentence"), ("b", "sentence_pair"), ("c", "regression")):
        write_task(tmp_path / "data" / name, kind, num_train=40, num_validation=21)
    monkeypatch.setattr(research_layers, "TASKS", ("a",))
    monkeypatch.setattr(research_layers, "OPTIONS", {"compacter_pp": {"bottleneck": 8}})
    monkeypatch.setattr(research_hadamard, "TASKS", ("a", "c"))
    monkeypatch.setattr(research_sharing, "SOURCES", ("a", "b"))
    monkeypatch.setattr(research_sharing, "NEW", ("c",))
    monkeypatch.setattr(research_sharing, "FEW_ROWS", 12)
    monkeypatch.setattr(research_sharing, "FEW_EPOCHS", 2)
    monkeypatch.setattr(research_sharing, "OPTIONS", {"bottleneck": 8})
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    return Given(tmp_path / "data", str(save_tiny(tmp_path / "tiny-bert", "bert")), "cpu", 32, 1)


@pytest.fixture
def bench(given: Given) -> Bench:
    return Bench(tiny_backbone("bert"), given, "a", 0)


def asked(given: Given, seeds: int = 1) -> Asked:
    return Asked(given, seeds, None, time.time() + 3600, "")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.NAME)
def test_a_script_runs_whole_and_then_lacks_nothing(module: Any, given: Given) -> None:
    seeds = 2 if module is research_hadamard else 1
    wanted = asked(given, seeds)
    keys = [key for group in research_pool.lacking(module, wanted) for key in group.keys]
    assert len(keys) == len(set(keys)) > 0
    assert research_pool.work(wanted, [module], workers=1) == 0
    found = record.read(module.NAME)
    assert set(found) == set(keys)
    assert research_pool.lacking(module, wanted) == []
    report = module.report(found)
    assert "Not measured yet." not in report
    longer = Given(given.data, given.backbone, given.device, given.rows, 2)
    assert sum(len(group.keys) for group in research_pool.lacking(module, asked(longer, seeds))) == len(keys)
    assert "Not measured yet." in module.report({})


def test_a_cell_that_fails_does_not_stop_the_others(
    given: Given, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = research_hadamard.cell

    def sometimes(bench: Bench) -> dict[str, Any]:
        if bench.task == "a":
            raise RuntimeError("no luck")
        return real(bench)

    monkeypatch.setattr(research_hadamard, "cell", sometimes)
    assert research_pool.work(asked(given), [research_hadamard], workers=1) == 1
    assert set(record.read(research_hadamard.NAME)) == {"c/0"}
    assert "a/0 failed" in capsys.readouterr().out


def test_nothing_is_begun_after_the_time_is_up(given: Given) -> None:
    late = Asked(given, 1, None, time.time() - 1, "")
    assert research_pool.work(late, [research_hadamard], workers=1) == 0
    assert record.read(research_hadamard.NAME) == {}


def test_one_half_chooses_and_the_other_judges(bench: Bench) -> None:
    whole = bench.material.validation.encoded
    assert sorted(text.ids for half in (bench.choose, bench.judge) for text in half.rows.encoded) == sorted(
        text.ids for text in whole
    )
    assert len(bench.choose.targets) == 10
    assert len(bench.judge.targets) == 11
    targets = {
        tuple(text.ids): target for text, target in zip(whole, bench.material.validation_targets, strict=True)
    }
    for half in (bench.choose, bench.judge):
        assert [targets[tuple(text.ids)] for text in half.rows.encoded] == list(half.targets)


def test_a_frozen_part_stays_and_the_rest_moves(bench: Bench) -> None:
    adapter, hyper = bench.adapter("hadamard")
    before = adapter.to_tensors()
    after = bench.train(
        research_bench.frozen(adapter, lambda name: name.endswith("/scale")), hyper
    ).to_tensors()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in moved if not name.startswith("head/")} == {
        name for name in before if name.endswith("/scale")
    }


def test_one_body_is_trained_by_all_tasks_and_each_has_a_head(given: Given) -> None:
    backbone = tiny_backbone("bert")
    benches = [Bench(backbone, given, task, 0) for task in ("a", "b")]
    first, second = research_sharing.one_body(benches)
    assert first.body is second.body
    assert first.head is not second.head
    learners = [
        one.learner(adapter, one.adapter("hadamard")[1])
        for one, adapter in zip(benches, (first, second), strict=True)
    ]
    both = research_bench.in_turn(learners, 0)
    trained = [id(p) for group in both.groups for p in group.parameters]
    assert len(trained) == len(set(trained))
    assert set(trained) == {id(p) for p in (*first.body_parameters(), *heads(first), *heads(second))}
    batches = both.batches(1)
    assert sorted(row for batch in batches for row in batch) == list(range(64))
    assert all(max(batch) < 32 or min(batch) >= 32 for batch in batches)  # each of one task
    with first.attached(backbone), torch.no_grad():
        torch.testing.assert_close(both.loss([33, 40]), learners[1].loss([1, 8]))


def heads(adapter: Any) -> list[torch.nn.Parameter]:
    return list(adapter.head.parameters())


def test_one_rule_is_the_same_numbers_for_all_tasks(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone("bert")
    benches = [Bench(backbone, given, task, 0) for task in ("a", "b")]
    seen: list[torch.Tensor] = []

    def see(bench: Bench, one: Adapter) -> dict[str, Any]:
        seen.append(one.shared["phm_rule"].detach().clone())
        return {}

    monkeypatch.setattr(research_sharing, "_both", see)
    research_sharing.rules(benches)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])  # of the new task, for which it was held
    fresh = benches[0].adapter("compacter", bottleneck=8)[0]
    assert not torch.equal(seen[0], fresh.shared["phm_rule"])


def test_the_search_drops_what_costs_least_on_the_choosing_half(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worth = {0: 1.0, 1: 5.0}

    def score(adapter: Any, half: Any) -> float:
        assert half is bench.choose
        return sum(worth[layer] for layer in {tap.layer for tap in adapter.body})

    monkeypatch.setattr(bench, "score", score)
    adapter, _ = bench.adapter("hadamard")
    assert research_layers.by_search(bench, adapter, [0, 1]) == [(0, 1), (1,)]


def _vectors(scale: list[float], shift: list[float]) -> dict[str, str]:
    return {
        name: base64.b64encode(np.array(values, dtype=np.float16).tobytes()).decode()
        for name, values in (("scale", scale), ("shift", shift))
    }


def test_cosines_are_of_what_moved() -> None:
    """Raw w of two tasks that have nothing in common is near 1; w - 1 is not."""
    found = {
        "trec/0": {"vectors": _vectors([0.5, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0])},
        "sst2/0": {"vectors": _vectors([0.0, 0.5, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0])},
    }
    table = research_hadamard.cosines(found).splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1] for line in table[2:]}
    assert rows == {"w - 1": "0.000", "w": "0.952", "b": "-1.000"}
    assert "| trec | 1.000 | 0.000 |" in research_hadamard.pairs(found, "scale")


def test_kept_vectors_are_what_moved_of_every_layer(bench: Bench) -> None:
    adapter = bench.trained("hadamard")
    tensors, kept = adapter.to_tensors(), {"vectors": research_hadamard._vectors(adapter)}
    for part, neutral in (("scale", 1), ("shift", 0)):
        layers = [tensors[f"encoder.{layer}.attn_context/{part}"] - neutral for layer in range(2)]
        found = research_hadamard.vector(kept, part)
        assert found == pytest.approx(torch.cat(layers).numpy(), rel=1e-3, abs=1e-7)


def test_a_difference_is_told_only_beyond_two_standard_errors() -> None:
    apart = [(0.5, 0.45), (0.6, 0.54), (0.7, 0.66)]
    assert research_tables.difference(apart) == "-5.0 ± 0.6 points"
    assert research_tables.difference([(0.5, 0.6), (0.5, 0.4), (0.5, 0.53)]).endswith(
        "points (no difference)"
    )
    assert research_tables.difference([(0.5, 0.6), (0.5, float("nan"))]) == "too few runs to tell"
    assert research_tables.mean_and_spread([0.5, 0.6]) == "55.0 ± 7.1"
    assert research_tables.mean_and_spread([0.5]) == "50.0"


def test_records_are_found_by_what_stands_before_their_seed() -> None:
    found = {"a/1": {"n": 1}, "a/0": {"n": 0}, "a/b/0": {"n": 2}}
    assert [one["n"] for one in research_tables.by_seed(found, "a")] == [0, 1]
    assert [one["n"] for one in research_tables.by_seed(found, "a/b")] == [2]


def test_a_correlation_needs_something_that_varies() -> None:
    assert research_bench.correlation(np.array([0.0, 1.0]), np.array([2.0, 4.0])) == pytest.approx(1.0)
    assert research_bench.correlation(np.array([1.0, 1.0]), np.array([2.0, 4.0])) is None


def test_errors_are_wrong_labels_or_distances(given: Given) -> None:
    backbone: Backbone = tiny_backbone("bert")
    labels, numbers = (Bench(backbone, given, task, 0) for task in ("a", "c"))
    wrong = labels.errors(labels.probe(), labels.judge)
    assert set(wrong) <= {0.0, 1.0}
    assert 1 - wrong.mean() == pytest.approx(
        labels.material.task.scores(labels.found(labels.probe(), labels.judge), labels.judge.targets)[
            "accuracy"
        ]
    )
    far = numbers.errors(numbers.probe(), numbers.judge)
    found = numbers.found(numbers.probe(), numbers.judge)[:, 0]
    assert far == pytest.approx(np.abs(found - np.array(numbers.judge.targets)), abs=1e-5)
