"""Text-to-text from rows to a file that a fresh process of the service accepts; and choices with a head."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters_store.adapter_file import read_adapter_file
from tests.tiny import minilm
from tests.unit.training.conftest import quick, write_task, write_text_task
from training.data.load import load_data
from training.file.evaluate import evaluate_file
from training.run import train
from training.settings.config import TrainConfig
from trunkline.cli import app

SMALL: dict[str, Any] = {"method": "compacter", "method_config": {"bottleneck": 8, "division": 4}}


def test_a_fresh_process_answers_a_text_task_as_the_trainer_did(tmp_path: Path, tiny_t5: Path) -> None:
    folder, out = write_text_task(tmp_path / "d"), tmp_path / "thirds.safetensors"
    config = quick(folder, out, backbone=str(tiny_t5), form="text-to-text", targets="words", lr=1e-2, **SMALL)
    result = train(config)
    assert result.file is not None
    assert result.file.num_probes >= 8
    assert result.file.max_probe_difference < 1e-4


def test_a_fresh_process_answers_choices_as_the_trainer_did(tmp_path: Path, tiny_directory: Path) -> None:
    folder, out = write_task(tmp_path / "d", "multiple_choice"), tmp_path / "choice.safetensors"
    result = train(quick(folder, out, backbone=str(tiny_directory)))
    assert result.file is not None
    assert result.file.max_probe_difference < 1e-4
    assert read_adapter_file(out).manifest.probes[0].choices is not None


@pytest.mark.shared_data
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("task", "method", "start"),
    [
        ("rte", "compacter", "sentence1: "),
        ("sst2", "bitfit", "sst2 sentence: "),
        ("stsb", "houlsby", "sentence1: "),
    ],
)
def test_real_tasks_with_the_papers_recipe_and_splits(
    tmp_path: Path, shared_data: Path, wordy_t5: Path, task: str, method: str, start: str
) -> None:
    """By the command line, as a user would: train, then evaluate on the half that chose nothing."""
    out = tmp_path / f"{task}.safetensors"
    small = {} if method == "bitfit" else {"bottleneck": 8}
    small |= {"division": 4} if method == "compacter" else {}
    options = [word for name, value in small.items() for word in ("--method-config", f"{name}={value}")]
    command = ["train", "--data", str(shared_data / task), "--task", task, "--backbone", str(wordy_t5)]
    command += [
        "--form",
        "text-to-text",
        "--recipe",
        "compacter",
        "--split-rule",
        "paper",
        "--method",
        method,
    ]
    command += ["--max-train-rows", "64", "--max-validation-rows", "40", "--epochs", "2", "--device", "cpu"]
    found = CliRunner().invoke(app, [*command, *options, "--out", str(out), "--json", "--quiet"])
    assert found.exit_code == 0, found.output
    trained = json.loads(found.stdout)
    assert (trained["num_train"], trained["num_validation"]) == (64, 40)
    manifest = read_adapter_file(out).manifest
    assert all(probe.text.startswith(start) for probe in manifest.probes)
    strings = {"stsb": [f"{i / 5:.1f}" for i in range(26)]}.get(task, ["0", "1"])
    assert manifest.head.labels == strings
    asked = ["evaluate", str(out), "--data", str(shared_data / task), "--split", "test", "--max-rows", "20"]
    asked += ["--backbone", str(wordy_t5), "--device", "cpu", "--generate", "--json"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    scores = json.loads(told.stdout)
    rule = "thousand" if task == "sst2" else "halve"
    assert scores["split"] == f"test, split as in the paper ({rule})"
    assert set(scores["generated_metrics"]) >= ({"pearson"} if task == "stsb" else {"accuracy"})


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("folder", "official", "source", "sizes"),
    [
        ("mrpc", "mrpc", "sentence1: ", (3668, 204)),
        ("cola", "cola", "sentence: ", (8551, 521)),
        ("wnli", "wnli", "sentence1: ", (635, 35)),
        ("cb", "superglue-cb", "premise: ", (250, 28)),
        ("copa", "superglue-copa", "premise: ", (400, 50)),
        ("wic", "superglue-wic", "sentence1: ", (5428, 319)),
        ("boolq_small", "superglue-boolq", "question: ", (2470, 400)),
        ("mnli_small", "mnli", "premise: ", (9832, 5000)),
        ("qnli_small", "qnli", "question: ", (3463, 1000)),
        ("trec", None, "sentence: ", (4952, 250)),
    ],
)
def test_every_data_set_finds_its_official_format_and_split(
    shared_data: Path, folder: str, official: str | None, source: str, sizes: tuple[int, int]
) -> None:
    config = TrainConfig(
        data=str(shared_data / folder), task="t", form="text-to-text", split_rule="paper", recipe="compacter"
    )
    data = load_data(config)
    assert data.official == official
    assert (len(data.train), len(data.validation)) == sizes
    assert str(data.train.texts[0]).startswith(source)
    assert all(label.isdigit() for label in data.task.labels)


@pytest.mark.shared_data
def test_real_choices_with_a_head(tmp_path: Path, shared_data: Path) -> None:
    """COPA on the embedded backbone: pairs of premise with question and choice."""
    out = tmp_path / "copa.safetensors"
    config = TrainConfig(
        data=str(shared_data / "copa"),
        task="copa",
        out=str(out),
        device="cpu",
        epochs=1,
        max_train_rows=40,
        max_validation_rows=40,
    )
    backbone = minilm()
    result = train(config, backbone=backbone)
    assert result.file is not None
    assert result.num_head_parameters == 385
    found = evaluate_file(out, shared_data / "copa", backbone=backbone, max_rows=40)
    assert found.metrics["accuracy"] == pytest.approx(result.metrics["accuracy"])
    text = read_adapter_file(out).manifest.probes[0].text
    assert text.endswith(("What was the cause?", "What happened as a result?"))
