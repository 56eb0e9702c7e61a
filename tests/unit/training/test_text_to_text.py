"""Whole text-to-text runs on tiny encoder-decoders: trained, written, served with the same probabilities."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters_store.adapter_file import read_adapter_file
from modeling import Backbone
from tests.conformance.options import tiny_options
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, quick, write_rows, write_task, write_text_task
from tests.unit.training.pages import read_page
from training.data.load import load_data
from training.errors import ConfigError, DataError
from training.file.evaluate import evaluate_file
from training.report.result import TrainResult
from training.run import train
from training.settings.config import TrainConfig

TEXT: dict[str, Any] = {"form": "text-to-text", "targets": "words", "lr": 1e-2, "epochs": 4}


@pytest.fixture(params=["t5", "bart"])
def decoder(request: pytest.FixtureRequest) -> Backbone:
    return tiny_backbone(request.param)


@pytest.fixture
def t5() -> Backbone:
    return tiny_backbone("t5")


def run(config: TrainConfig, backbone: Backbone, told: Told | None = None) -> TrainResult:
    return train(config, progress=told or Told(), backbone=backbone, verify=agree)


@pytest.mark.parametrize("method", ["lora", "compacter", "prompt_tuning", "intrinsic_said", "full"])
def test_a_text_task_ends_in_a_file_that_is_served_as_it_was_trained(
    tmp_path: Path, decoder: Backbone, method: str
) -> None:
    """Adapters, a prompt, and methods that change weights: no head, no stage one, label strings as labels."""
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "a.safetensors"
    before = {name: p.clone() for name, p in decoder.model.state_dict().items()}
    result = run(quick(folder, out, **TEXT, method=method, method_config=tiny_options(method)), decoder)
    after = decoder.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert {record.stage for record in result.history} == {"adapter"}
    assert (result.num_head_parameters, result.head_metrics) == (0, None)
    losses = [record.validation_loss for record in result.history]
    assert min(losses) < losses[0]
    file = read_adapter_file(out)
    assert (file.manifest.head.kind, file.manifest.head.pooling) == ("text_to_text", "none")
    assert file.manifest.head.labels == ["w1", "w30", "w60"]
    assert file.manifest.input.fields == ["source"]
    assert not any(name.startswith("head/") for name in file.tensors)
    assert file.manifest.probes[0].text.startswith(("text: ", "thirds text: "))
    found = evaluate_file(out, folder, backbone=decoder)
    assert file.manifest.metrics is not None
    assert found.metrics == pytest.approx(file.manifest.metrics.values, abs=1e-4)
    served = {text: row.logits for text, row in zip(found.texts, found.rows, strict=True)}
    for probe in file.manifest.probes:
        np.testing.assert_allclose(served[probe.text], probe.logits, rtol=1e-4, atol=1e-4)


def test_full_fine_tuning_learns_to_write_the_label(tmp_path: Path, t5: Backbone) -> None:
    """Both ways to answer agree once it has learnt: the most probable string is what it writes freely."""
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "a.safetensors"
    changes = TEXT | {"epochs": 8, "method": "full"}
    result = run(quick(folder, out, **changes), t5)
    assert result.head_metrics is None
    assert result.value > 0.8
    found = evaluate_file(out, folder, backbone=t5, generate=True)
    assert found.generated_metrics is not None
    assert found.generated_metrics["accuracy"] > 0.8
    row = found.rows[0]
    assert row.expected in ("w1", "w30", "w60")
    assert isinstance(row.generated, str)


def test_a_score_is_learnt_in_steps_and_answered_as_a_number(tmp_path: Path, t5: Backbone) -> None:
    folder = write_task(tmp_path / "d", "regression")
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    data = load_data(quick(folder, tmp_path / "a.safetensors", **TEXT))
    assert data.task.labels[0] == "0.0"
    assert len(data.task.labels) <= 32
    low, high = min(row["label"] for row in rows), max(row["label"] for row in rows)
    assert float(data.task.labels[-1]) - float(data.task.labels[0]) == pytest.approx(high - low, abs=1.5)
    perfect = torch.nn.functional.one_hot(data.task.stack(data.validation.targets), len(data.task.labels))
    values = data.task.scores(perfect.float().numpy(), data.validation.targets)
    assert values["pearson"] > 0.99
    assert values["mae"] < 0.6
    constant = np.zeros((30, len(data.task.labels)), dtype=np.float32)
    assert data.task.scores(constant, data.validation.targets)["pearson_spearman"] == 0.0
    with pytest.raises(ConfigError, match=r"label strings '.*' and '.*' are the same tokens to tiny-t5"):
        run(quick(folder, tmp_path / "a.safetensors", **TEXT), t5)


def test_label_strings_that_are_the_same_tokens_are_refused(tmp_path: Path, t5: Backbone) -> None:
    folder = write_text_task(tmp_path / "d")
    with pytest.raises(ConfigError, match=r"'0' and '1' are the same tokens to tiny-t5; .*--targets"):
        run(quick(folder, tmp_path / "a.safetensors", **TEXT | {"targets": "digits"}), t5)


def test_several_labels_and_free_answers_have_no_text_form(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "d", "multi_label")
    with pytest.raises(DataError, match="multi_label has no text-to-text form"):
        load_data(quick(folder, tmp_path / "a", **TEXT))
    row = {"question": "q", "context": "c", "label": 0}
    rows = write_rows(tmp_path / "s" / "train.jsonl", [row, row | {"label": 1}] * 9)
    with pytest.raises(DataError, match="format squad: its answers are any text"):
        load_data(
            quick(rows.parent, tmp_path / "a", **TEXT, format="squad", text_fields=("question", "context"))
        )


@pytest.mark.parametrize(
    ("changes", "prefixed"),
    [
        ({"method": "full"}, True),
        ({"method": "prompt_tuning"}, True),
        ({"method": "bitfit"}, True),
        ({"method": "compacter"}, False),
        ({"method": "hadamard"}, False),
        ({"method": "full", "task_prefix": False}, False),
        ({"method": "compacter", "task_prefix": True}, True),
    ],
)
def test_the_task_is_named_in_front_for_methods_without_adapters(
    tmp_path: Path, changes: dict[str, Any], prefixed: bool
) -> None:
    data = load_data(quick(write_text_task(tmp_path / "d"), tmp_path / "a", **TEXT, **changes))
    assert str(data.train.texts[0]).startswith("thirds text: " if prefixed else "text: ")


def test_choices_as_text_are_one_source(tmp_path: Path) -> None:
    row = {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "effect"}
    rows = [row | {"premise": f"P{i}.", "label": i % 2} for i in range(40)]
    folder = write_rows(tmp_path / "copa" / "train.jsonl", rows).parent
    names = ["choice1", "choice2"]
    card = {"kind": "multiple_choice", "text_fields": list(row), "label_names": names, "name": "copa"}
    (folder / "dataset.json").write_text(json.dumps(card))
    data = load_data(quick(folder, tmp_path / "a", form="text-to-text"))
    assert (data.official, data.task.kind, data.task.labels) == ("superglue-copa", "text_to_text", ("0", "1"))
    assert "choice1: A. choice2: B. question: effect" in str(data.train.texts[0])
    exact = load_data(quick(folder, tmp_path / "a", form="text-to-text", official_code=True))
    assert "question" not in str(exact.train.texts[0])
    head = load_data(quick(folder, tmp_path / "a"))
    assert (head.task.kind, head.task.labels, head.task.class_names) == (
        "multiple_choice",
        ("choice",),
        ("choice1", "choice2"),
    )


def test_rows_are_read_for_evaluation_as_in_training(tmp_path: Path, t5: Backbone) -> None:
    """With the file's own formatter, prefix and order of labels, whatever the data's card says by now."""
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "a.safetensors"
    run(quick(folder, out, **TEXT, method="lora", method_config={"rank": 4}, task_prefix=True), t5)
    before = evaluate_file(out, folder, backbone=t5)
    card = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(
        json.dumps(card | {"label_names": ["w60", "w1", "w30"], "name": "renamed"})
    )
    for name in ("train.jsonl", "validation.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        write_rows(folder / name, [row | {"label": (row["label"] + 1) % 3} for row in rows])
    again = evaluate_file(out, folder, backbone=t5)
    assert again.texts == before.texts
    assert again.metrics == before.metrics
    assert str(before.texts[0]).startswith("thirds text: ")


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(read_adapter_file(path).tensors.items()):
        total.update(name.encode() + tensor.numpy().tobytes())
    return total.hexdigest()


class Killed(Told):
    """Stops after some evaluations, in the middle of the next epoch."""

    def step(self, loss: float | None) -> None:
        super().step(loss)
        if loss is not None and len(self.epochs) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["compacter", "intrinsic_said"])
def test_a_killed_text_run_goes_on_to_the_same_result(tmp_path: Path, t5: Backbone, method: str) -> None:
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "a.safetensors"
    config = quick(folder, out, **TEXT, method=method, method_config=tiny_options(method))
    whole = run(config, t5)
    expected = _digest(out)
    out.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(config, t5, Killed())
    told = Told()
    again = run(config, t5, told)
    assert any("resumed from" in note for note in told.notes)
    assert again.history == whole.history
    assert _digest(out) == expected


def test_the_recipe_of_the_paper_with_its_splits(tmp_path: Path, t5: Backbone) -> None:
    """Low-resource epochs, evaluations by steps, halves of validation, and the mean of the named metrics."""
    folder = write_text_task(tmp_path / "d", num_train=60, num_validation=30)
    card = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(card | {"metric": "accuracy and macro F1"}))
    out = tmp_path / "a.safetensors"
    config = TrainConfig(
        data=str(folder),
        task="thirds",
        out=str(out),
        device="cpu",
        method="lora",
        method_config={"rank": 4},
        form="text-to-text",
        targets="words",
        recipe="compacter",
        split_rule="paper",
        max_train_rows=50,
        epochs=6,
        evaluate_steps=4,
        report=str(tmp_path / "report"),
    )
    result = run(config, t5)
    page = read_page((tmp_path / "report" / "thirds.html").read_text(encoding="utf-8"))
    assert "w30" in page.column("By label", "label")
    assert page.tables["Scores"][1][0] == "accuracy+macro_f1"
    assert (result.num_train, result.num_validation) == (50, 15)
    assert [record.epoch for record in result.history] == [0, 2, 4, 6]
    assert result.metric == "accuracy+macro_f1"
    assert result.value == pytest.approx((result.metrics["accuracy"] + result.metrics["macro_f1"]) / 2)
    assert any("split as in the Compacter paper (seed 42)" in note for note in result.notes)
    validation, test = (evaluate_file(out, folder, split, backbone=t5) for split in ("validation", "test"))
    assert len(validation.rows) == len(test.rows) == 15
    assert sorted(row.row for row in validation.rows + test.rows) == list(range(1, 31))
    assert validation.split == "validation, split as in the paper (halve)"
    whole = evaluate_file(out, folder, backbone=t5, split_rule="files")
    assert (len(whole.rows), whole.split) == (30, "validation")


def test_a_head_does_not_generate(task_folder: Callable[..., Path], tmp_path: Path) -> None:
    backbone, out = tiny_backbone("bert"), tmp_path / "a.safetensors"
    folder = task_folder()
    run(quick(folder, out, epochs=1), backbone)
    with pytest.raises(ConfigError, match="only text-to-text tasks generate"):
        evaluate_file(out, folder, backbone=backbone, generate=True)


@pytest.mark.parametrize(
    "changes",
    [{"pooling": "eos"}, {"fit_head": True}, {"head_l2": 0.1}, {"refit": "all"}, {"lr_head_stage2": 0.1}],
)
def test_what_belongs_to_a_head_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=f"{name} belongs to a head, and --form text-to-text has none"):
        TrainConfig(data=str(tmp_path), task="a", form="text-to-text", **changes)
    assert TrainConfig(data=str(tmp_path), task="a", form="text-to-text", fit_head=False).fit_head is False


def test_a_head_alone_has_no_text_form(tmp_path: Path, t5: Backbone) -> None:
    config = quick(write_text_task(tmp_path / "d"), tmp_path / "a.safetensors", **TEXT, method="linear_probe")
    with pytest.raises(ConfigError, match="linear_probe trains a head alone, and text_to_text has none"):
        run(config, t5)
