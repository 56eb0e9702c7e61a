"""What a run keeps: the adapter, or the head alone; trained once more on all rows; the paper's two stages."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import training.learning.refit
import training.learning.seed
import training.run
from adapters_store.adapter_file import AdapterFile, read_adapter_file
from modeling import Backbone, HeadSpec
from tests.unit.training.conftest import LABELS, Told, agree, make_rows, quick, write_rows
from tests.unit.training.pages import read_page
from tests.unit.training.test_recipe import Killed, tensors_digest
from training.data.load import load_data
from training.file.evaluate import evaluate_file
from training.learning.seed import better, clearly_better, soften
from training.loop.fit import Evaluation, StageResult, fit
from training.metrics.scores import Metric
from training.report.result import SeedOutcome, TrainResult
from training.report.suspects import suspected
from training.run import train
from training.settings.config import TrainConfig
from training.tasks.single_label import SingleLabel


def run(config: TrainConfig, backbone: Backbone, told: Told | None = None) -> TrainResult:
    return train(config, progress=told or Told(), backbone=backbone, verify=agree)


def one_file(folder: Path, count: int = 60) -> Path:
    """Rows in one file: some of them will be held out."""
    write_rows(folder / "train.jsonl", make_rows("single_sentence", count, 1))
    card = {"kind": "single_sentence", "text_fields": ["text"], "label_names": LABELS}
    (folder / "dataset.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def held_out(tmp_path: Path, out: str = "a", **changes: Any) -> TrainConfig:
    folder = tmp_path / "drawn"
    if not folder.exists():
        one_file(folder)
    return quick(folder, tmp_path / f"{out}.safetensors", validation_fraction=0.3, **changes)


def in_one_order(config: TrainConfig, folder: Path) -> Path:
    """The rows of a drawn split as a file of train rows: those that were learnt, then the held-out ones."""
    data = load_data(config)
    assert data.drawn
    texts, targets = (
        [*getattr(data.train, name), *getattr(data.validation, name)] for name in ("texts", "targets")
    )
    rows = [{"text": text, "label": target} for text, target in zip(texts, targets, strict=True)]
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "validation.jsonl", make_rows("single_sentence", 12, 5))
    (folder / "dataset.json").write_text((Path(config.data) / "dataset.json").read_text())
    return folder


def file_of(config: TrainConfig) -> AdapterFile:
    return read_adapter_file(config.out_path)


def same(one: AdapterFile, other: AdapterFile, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[name], rtol=rtol, atol=atol)


# ---- on all rows


def test_a_head_is_fitted_on_the_held_out_rows_too(tmp_path: Path, backbone: Backbone) -> None:
    """As one that was given all of them; the metrics stay those of the run that had not seen them."""
    changes: dict[str, Any] = {"method": "linear_probe", "head_l2": 0.05}
    config = held_out(tmp_path, **changes)
    result = run(config, backbone)
    assert result.on_all_rows
    whole = quick(in_one_order(config, tmp_path / "whole"), tmp_path / "whole.safetensors", **changes)
    assert not run(whole, backbone).on_all_rows
    same(file_of(config), file_of(whole), rtol=2e-3, atol=5e-3)
    without = held_out(tmp_path, "without", **changes, refit="none")
    before = run(without, backbone)
    assert not before.on_all_rows
    assert dict(before.metrics) == dict(result.metrics)
    moved = file_of(without).tensors["head/weight"] - file_of(config).tensors["head/weight"]
    assert moved.abs().max() > 0.02
    assert any("trained again on all 60 rows" in note for note in result.notes)
    assert not any("trained again" in note for note in before.notes)


def test_an_adapter_is_trained_again_on_all_rows_where_they_are_few(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step as a run that was given all of them, and whose validation rows decide nothing."""
    monkeypatch.setattr(training.learning.seed, "better", lambda one, other: False)
    monkeypatch.setattr(training.learning.seed, "clearly_better", lambda one, other: False)
    changes: dict[str, Any] = {"head_l2": 0.05, "lr": 2e-2, "patience": 50}
    config = held_out(tmp_path, **changes)
    result = run(config, backbone)
    assert result.on_all_rows
    whole = quick(in_one_order(config, tmp_path / "whole"), tmp_path / "whole.safetensors", **changes)
    run(whole, backbone)
    same(file_of(config), file_of(whole), rtol=1e-4, atol=1e-5)


def test_the_numbers_that_are_told_are_of_rows_that_were_not_seen(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = held_out(tmp_path)
    result = run(config, backbone)
    assert result.on_all_rows
    file = file_of(config)
    assert file.manifest.metrics is not None
    assert file.manifest.metrics.values == pytest.approx(result.metrics)
    assert file.manifest.metrics.rows == result.num_validation == 18
    found = evaluate_file(config.out_path, one_file(tmp_path / "all"), backbone=backbone, split="train")
    by_text = {text: row.logits for text, row in zip(found.texts, found.rows, strict=True)}
    for probe in file.manifest.probes:
        np.testing.assert_allclose(by_text[probe.text], probe.logits, rtol=1e-4, atol=1e-5)

    def left(_: Any, best: SeedOutcome, *__: Any) -> SeedOutcome:
        return best

    monkeypatch.setattr(training.run, "on_all_rows", left)
    other = held_out(tmp_path, "other")
    before = run(other, backbone)
    assert dict(before.metrics) == pytest.approx(dict(result.metrics))
    assert before.history == result.history
    assert tensors_digest(other.out_path) != tensors_digest(config.out_path)


@pytest.mark.parametrize(
    ("refit", "few", "method", "body_moves"),
    [("auto", 500, "hadamard", True), ("auto", 59, "hadamard", False), ("head", 500, "hadamard", False)],
)
def test_what_is_trained_again(
    tmp_path: Path,
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    refit: str,
    few: int,
    method: str,
    body_moves: bool,
) -> None:
    monkeypatch.setattr(training.learning.refit, "_FEW_ROWS", few)
    monkeypatch.setattr(training.learning.seed, "better", lambda one, other: False)
    monkeypatch.setattr(training.learning.seed, "clearly_better", lambda one, other: False)
    config = held_out(tmp_path, refit=refit, method=method)
    assert run(config, backbone).on_all_rows
    monkeypatch.setattr(training.run, "on_all_rows", lambda _, best, *__: best)
    other = held_out(tmp_path, "other", refit=refit, method=method)
    run(other, backbone)
    changed = {
        name.startswith("head/")
        for name, tensor in file_of(config).tensors.items()
        if not torch.equal(tensor, file_of(other).tensors[name])
    }
    assert changed == ({True, False} if body_moves else {True})


def test_where_patience_stopped_it_all_rows_are_learnt_up_to_the_state_that_was_chosen(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.learning.seed, "clearly_better", lambda one, other: False)

    def stopped(*given: Any) -> StageResult:
        return replace(fit(*given), best_epoch=7)

    monkeypatch.setattr(training.learning.seed, "fit", stopped)
    told = Told()
    assert run(held_out(tmp_path, epochs=12, patience=12, batch_size=60), backbone, told).on_all_rows
    assert [steps for stage, steps in told.stages if stage == "adapter"] == [12, 7]


def test_an_adapter_that_stayed_as_it_began_is_not_trained_on_all_rows(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.learning.seed, "clearly_better", lambda one, other: False)
    told = Told()
    result = run(held_out(tmp_path, epochs=40, patience=2, lr=5.0, lr_head_stage2=5.0), backbone, told)
    assert result.best_epoch == 0
    assert [stage for stage, _ in told.stages].count("adapter") == 1


@pytest.mark.parametrize(("evaluations", "steps_more"), [(1, 2), (3, 1), (3, 9), (4, 1)])
def test_a_run_that_is_killed_while_it_learns_all_rows_ends_in_the_same_file(
    tmp_path: Path, backbone: Backbone, evaluations: int, steps_more: int
) -> None:
    """Three epochs are evaluated, then the last one on all rows; features and refits are steps, too."""
    config = held_out(tmp_path)
    whole = run(config, backbone)
    assert whole.on_all_rows
    expected = tensors_digest(config.out_path)
    config.out_path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(config, backbone, Killed(evaluations, steps_more))
    assert not config.out_path.exists()
    again = run(config, backbone)
    assert tensors_digest(config.out_path) == expected
    assert (again.history, again.metrics) == (whole.history, whole.metrics)


# ---- the head alone


def test_the_head_alone_is_in_the_file_where_the_adapter_is_clearly_worse(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    folder = task_folder()
    config = quick(folder, tmp_path / "a.safetensors", lr=5.0, refit="none")
    result = run(config, backbone)
    probe = quick(folder, tmp_path / "probe.safetensors", method="linear_probe")
    run(probe, backbone)
    assert file_of(config).manifest.method.name == result.method == "linear_probe"
    same(file_of(config), file_of(probe))
    assert evaluate_file(config.out_path, folder, backbone=backbone).metrics == pytest.approx(result.metrics)


def evaluation(value: float, loss: float, rows: int = 100, metric: str = "accuracy") -> Evaluation:
    task = SingleLabel(("a", "b"), Metric(metric))
    return Evaluation({metric: value}, value, loss, np.zeros((rows, 2), np.float32), task)


def test_clearly_better_is_in_metric_and_loss_and_by_more_than_the_error_of_so_few_rows() -> None:
    """One standard error of a share of 100 rows is 0.05 at most."""
    assert clearly_better(evaluation(0.86, 0.3), evaluation(0.80, 0.4))
    assert not clearly_better(evaluation(0.84, 0.3), evaluation(0.80, 0.4))
    assert clearly_better(evaluation(0.84, 0.3, rows=1000), evaluation(0.80, 0.4, rows=1000))
    assert not clearly_better(evaluation(0.86, 0.5), evaluation(0.80, 0.4))
    assert not clearly_better(evaluation(0.80, 0.3), evaluation(0.86, 0.4))
    assert not clearly_better(evaluation(0.86, 0.3, metric="mae"), evaluation(0.80, 0.4, metric="mae"))


@pytest.mark.parametrize("unit", [0.001, 1.0, 50_000.0])
def test_an_error_is_clearly_better_by_a_part_of_it_whatever_its_unit(unit: float) -> None:
    def error(value: float, loss: float) -> Evaluation:
        return evaluation(value * unit, loss, metric="mae")

    assert clearly_better(error(0.90, 0.3), error(1.0, 0.4))
    assert not clearly_better(error(0.97, 0.3), error(1.0, 0.4))
    assert not clearly_better(error(1.0, 0.3), error(0.9, 0.4))


def test_between_equals_the_lower_loss_is_better() -> None:
    assert better(evaluation(0.8, 0.3), evaluation(0.8, 0.4))
    assert not better(evaluation(0.8, 0.4), evaluation(0.8, 0.4))
    assert better(evaluation(0.9, 0.9), evaluation(0.8, 0.4))
    assert better(evaluation(0.7, 0.9, metric="mae"), evaluation(0.8, 0.4, metric="mae"))


def test_a_head_is_softened_where_its_loss_can_vanish() -> None:
    def softened(spec: HeadSpec) -> tuple[Tensor, Tensor]:
        head = nn.Linear(3, len(spec.labels))
        before = [parameter.detach().clone() for parameter in head.parameters()]
        soften(head, spec, 0.3)
        return head.weight / before[0], head.bias / before[1]

    for share in softened(HeadSpec("single_label", ("a", "b"))):
        torch.testing.assert_close(share, torch.full_like(share, 0.3))
    for share in softened(HeadSpec("regression", ("value",), low=0.0, high=1.0)):
        torch.testing.assert_close(share, torch.ones_like(share))


# ---- the paper's two stages


def test_the_hadamard_recipe_leaves_the_head_as_stage_one_found_it(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    folder = task_folder()
    config = quick(folder, tmp_path / "a.safetensors", recipe="hadamard", lr=2e-2)
    result = run(config, backbone)
    probe = quick(folder, tmp_path / "p.safetensors", method="linear_probe", pooling="pooler")
    run(probe, backbone)
    file, alone = file_of(config), file_of(probe)
    assert (file.manifest.method.name, file.manifest.head.pooling) == ("hadamard", "pooler")
    assert {record.stage for record in result.history} == {"head", "adapter"}
    for name in ("head/weight", "head/bias"):
        assert torch.equal(file.tensors[name], alone.tensors[name])
    losses = [
        record.loss for record in result.history if record.stage == "adapter" and record.loss is not None
    ]
    assert losses[-1] < losses[0]


def test_the_hadamard_recipe_reads_the_first_token_where_there_is_no_pooler(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    backbone.model.pooler = None  # type: ignore[assignment]
    config = quick(task_folder(), tmp_path / "a.safetensors", recipe="hadamard", epochs=1)
    run(config, backbone)
    assert file_of(config).manifest.head.pooling == "first"


# ---- rows that cross-validation doubts


def test_a_planted_wrong_label_is_suspected(tmp_path: Path, backbone: Backbone) -> None:
    """By the best seed's logits of each row from a head that has not seen it, on the page as well."""
    own = [("w1", "w2"), ("w30", "w31"), ("w60", "w61")]
    rows = [
        {"text": " ".join(own[i % 3][(i // 3 + place) % 2] for place in range(3 + i % 5)), "label": i % 3}
        for i in range(90)
    ]
    planted = [7, 41]
    for index in planted:
        rows[index]["label"] = (index + 1) % 3
    folder = tmp_path / "data"
    one_file(folder)
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "validation.jsonl", make_rows("single_sentence", 30, 2))
    config = quick(folder, tmp_path / "a.safetensors", epochs=1, report=str(tmp_path / "page"))
    result, data = run(config, backbone), load_data(config)
    assert result.out_of_fold is not None
    assert (result.out_of_fold.shape, str(result.out_of_fold.dtype)) == ((90, 3), "float32")
    task = result.evaluation.task
    found = suspected(task.judged(task.spec("none"), result.out_of_fold, data.train.targets))
    assert sorted(found.tolist()) == planted
    table = read_page((tmp_path / "page" / "demo.html").read_text()).column("Suspected label errors", "row")
    assert sorted(table) == ["42", "8"]


def test_out_of_fold_numbers_are_in_the_datas_units(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    """Targets of 0 to 21: the prediction of rows that were left out is near them."""
    config = quick(task_folder("regression"), tmp_path / "a.safetensors", method="linear_probe")
    result, data = run(config, backbone), load_data(config)
    assert result.out_of_fold is not None
    predicted, targets = result.out_of_fold[:, 0], np.array(data.train.targets, dtype=np.float64)
    assert np.abs(predicted - targets).mean() < np.abs(targets - targets.mean()).mean()


def test_where_no_head_is_fitted_nobody_is_suspected(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> None:
    folder = task_folder()
    assert run(quick(folder, tmp_path / "a.safetensors", fit_head=False), backbone).out_of_fold is None
    probe = quick(folder, tmp_path / "a.safetensors", method="linear_probe")
    assert run(replace(probe, head_l2=0.1), backbone).out_of_fold is None
