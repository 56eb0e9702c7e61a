"""RTE and SST-2 as text to text on a tiny T5, the whole way: trained, checked, uploaded, and answered twice.

The rows are made up in the words of the tiny tokenizer; source strings are the official ones. What the server
scores and writes is what `trunkline evaluate` computes offline, whatever the other task does meanwhile.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters_store import read_adapter
from modeling import Backbone, load_backbone
from proof.check import CheckReport, check_file
from service.settings import Settings
from tests.conformance.options import tiny_options
from tests.integration.forms import save_model
from tests.integration.world import Live, assert_close
from tests.tiny import WORDS
from training.file.evaluate import FileEvaluation, evaluate_file
from training.run import train
from training.settings.config import TrainConfig
from trunkline.cli import app

METHOD_OF = {"rte": "compacter", "sst2": "full"}
FIELDS = {"rte": ["sentence1", "sentence2"], "sst2": ["sentence"]}
KINDS = {"rte": "sentence_pair", "sst2": "single_sentence"}
LABELS = ["w1", "w40"]


@dataclass(frozen=True)
class Trained:
    """A file that training wrote, and what was computed offline."""

    data: bytes
    evaluation: FileEvaluation


def write_data(folder: Path, name: str) -> Path:
    """Rows whose label is the half of the vocabulary that their words come from, and a card."""
    rng = random.Random(name)
    for split, count in (("train", 60), ("validation", 20)):
        rows = []
        for index in range(count):
            half = WORDS[: len(WORDS) // 2] if index % 2 == 0 else WORDS[len(WORDS) // 2 :]
            texts = {field: " ".join(rng.choices(half, k=rng.randint(2, 6))) for field in FIELDS[name]}
            rows.append({**texts, "label": index % 2})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = {"name": name, "kind": KINDS[name], "text_fields": FIELDS[name], "label_names": LABELS}
    (folder / "dataset.json").write_text(json.dumps(card))
    return folder


def trained(folder: Path, name: str, backbone: Backbone) -> Trained:
    """One short run on the tiny T5, verified through the service's own check."""
    data, out = write_data(folder / name, name), folder / f"{name}.safetensors"
    config = TrainConfig(
        data=str(data),
        task=name,
        out=str(out),
        form="text-to-text",
        targets="words",
        method=METHOD_OF[name],
        method_config=tiny_options(METHOD_OF[name]),
        device="cpu",
        epochs=4,
        lr=1e-2,
        batch_size=8,
        max_tokens=48,
    )

    def verify(path: Path, _: str) -> CheckReport:
        return check_file(path.read_bytes(), backbone)

    train(config, backbone=backbone, verify=verify)
    return Trained(out.read_bytes(), evaluate_file(out, data, backbone=backbone, generate=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("trained") / "tiny-t5", "t5")


@pytest.fixture(scope="module")
def tasks(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    backbone, files = load_backbone(str(folder)), tmp_path_factory.mktemp("files")
    return {name: trained(files, name, backbone) for name in METHOD_OF}


@pytest.fixture(scope="module")
def live(folder: Path, tasks: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("store") / "store"
    with Live(Settings(backbone=str(folder), store=store, device="cpu")) as server:
        for name, task in tasks.items():
            response = server.push(name, task.data)
            assert response.status_code == 201, response.text
            assert response.json()["kind"] == "text_to_text"
        yield server


def test_the_sources_are_the_official_ones(tasks: dict[str, Trained]) -> None:
    starts = {name: str(task.evaluation.texts[0]) for name, task in tasks.items()}
    assert starts["rte"].startswith("sentence1: w")
    assert " sentence2: w" in starts["rte"]
    assert starts["sst2"].startswith("sst2 sentence: w")  # a method without adapters names its task


def test_full_names_the_backbones_own_parameters(folder: Path, tasks: dict[str, Trained]) -> None:
    """Although other adapters were on the same backbone before it."""
    own = {f"weights/{name.lower()}" for name, _ in load_backbone(str(folder)).model.named_parameters()}
    assert set(read_adapter(tasks["sst2"].data).tensors) == own


def test_served_is_evaluated_in_both_ways(live: Live, tasks: dict[str, Trained]) -> None:
    """Both tasks, scored and written, at the same time."""

    def ask(name: str, **options: Any) -> Any:
        texts = list(tasks[name].evaluation.texts)
        return live.predict(name, texts, truncate=True, **options)["predictions"]

    with ThreadPoolExecutor(4) as pool:
        scored = {name: pool.submit(ask, name, raw=True) for name in tasks}
        written = {name: pool.submit(ask, name, generate=True) for name in tasks}
    for name, task in tasks.items():
        for row, one, other in zip(
            task.evaluation.rows, scored[name].result(), written[name].result(), strict=True
        ):
            assert_close(one["logits"], row.logits)
            assert one["label"] == row.label
            assert other["text"] == row.generated
            assert other["label"] == (row.generated if row.generated in LABELS else None)


def test_a_file_of_rows_is_asked_as_it_was_evaluated(
    live: Live, tasks: dict[str, Trained], tmp_path: Path
) -> None:
    """The sources are written out of the rows' own fields, as in training."""
    for name, task in tasks.items():
        rows, out = write_data(tmp_path / name, name) / "validation.jsonl", tmp_path / f"{name}.out.jsonl"
        command = ["predict", "--task", name, "--file", str(rows), "--out", str(out), "--truncate"]
        done = CliRunner().invoke(app, [*command, "--url", live.url])
        assert done.exit_code == 0, done.output
        answers = [json.loads(line) for line in out.read_text().splitlines()]
        assert [one["predicted_label"] for one in answers] == [row.label for row in task.evaluation.rows]
        assert [one["label"] for one in answers] == [
            json.loads(line)["label"] for line in rows.read_text().splitlines()
        ]


def test_what_was_learnt_arrives(live: Live, tasks: dict[str, Trained]) -> None:
    """Full fine-tuning of the tiny model answers its rows, and writes what it scores."""
    evaluation = tasks["sst2"].evaluation
    assert evaluation.metrics["accuracy"] >= 0.8
    assert evaluation.generated_metrics is not None
    assert evaluation.generated_metrics["accuracy"] >= 0.8
    words = " ".join(WORDS[50:56])
    predicted = live.predict("sst2", f"sst2 sentence: {words}")["predictions"][0]
    assert predicted["label"] == "w40"
    assert predicted["score"] > 0.5
