"""Answers that are any text: read, learnt one by one, measured by what is written, and served as measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_store.adapter_file import read_adapter_file
from modeling import Backbone
from tests.conformance.options import tiny_options
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import LABELS, agree, make_rows, quick, write_rows
from training.data.load import load_data
from training.errors import ConfigError, DataError
from training.file.evaluate import evaluate_file
from training.file.prune import prune_file
from training.run import train
from training.settings.config import TrainConfig
from training.tasks.free_text import FreeText

NO_LOGITS = np.empty(0, dtype=np.float32)
ANSWERS = {"low": "w1 w2", "middle": "w30", "high": "w60 w61 w62"}
FREE: dict[str, Any] = {"form": "text-to-text", "kind": "free_text", "lr": 1e-2, "epochs": 4}


def write_answers(folder: Path) -> Path:
    """The thirds of the vocabulary, each with a phrase of its own; the first of two right ones in places."""
    for split, count, seed in (("train", 60, 1), ("validation", 20, 2)):
        rows = []
        for index, row in enumerate(make_rows("single_sentence", count, seed)):
            answer = ANSWERS[LABELS[row["label"]]]
            rows.append({"text": row["text"], "answers": [answer, "w9"] if index % 10 == 0 else answer})
        write_rows(folder / f"{split}.jsonl", rows)
    return folder


def record_row(number: int, answers: list[str]) -> dict[str, Any]:
    return {
        "query": f"Who met @placeholder in {number}?",
        "entities": ["w1 w2", "w30"],
        "passage": f"w{number} .\n@highlight\nw30 met w1 w2",
        "answers": answers,
    }


def write_record(folder: Path) -> Path:
    rows = [record_row(i, ([], ["w30"], ["w1 w2", "w30"])[i % 3]) for i in range(30)]
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "validation.jsonl", rows[:12])
    (folder / "dataset.json").write_text(json.dumps({"name": "record", "text_fields": ["query", "passage"]}))
    return folder


@pytest.fixture
def t5() -> Backbone:
    return tiny_backbone("t5")


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("method", ["compacter", "hadamard", "prompt_tuning", "intrinsic_said"])
def test_a_file_without_labels_is_served_as_it_was_measured(tmp_path: Path, family: str, method: str) -> None:
    backbone, out = tiny_backbone(family), tmp_path / "a.safetensors"
    folder = write_answers(tmp_path / "d")
    config = quick(folder, out, **FREE, method=method, method_config=tiny_options(method))
    result = train(config, backbone=backbone, verify=agree)
    losses = [record.validation_loss for record in result.history]
    assert min(losses) < losses[0]
    manifest = read_adapter_file(out).manifest
    assert manifest.head.labels == []
    assert manifest.head.max_new_tokens == max(map(len, backbone.label_ids(list(ANSWERS.values()))))
    assert manifest.metrics is not None
    found = evaluate_file(out, folder, backbone=backbone)
    assert found.metrics == pytest.approx(manifest.metrics.values, abs=1e-4)
    assert found.generated_metrics is None
    by_source = dict(zip(found.texts, found.rows, strict=True))
    for probe in manifest.probes:
        row = by_source[probe.text]
        assert probe.target in row.expected
        np.testing.assert_allclose(row.logits, probe.logits, rtol=1e-4, atol=1e-4)
        assert row.logits[0] < 0


def test_what_was_learnt_is_written(tmp_path: Path, t5: Backbone) -> None:
    folder, out = write_answers(tmp_path / "d"), tmp_path / "a.safetensors"
    config = quick(folder, out, **FREE | {"method": "full", "epochs": 8, "metric": "f1+exact_match"})
    result = train(config, backbone=t5, verify=agree)
    assert result.metric == "f1+exact_match"
    assert result.value > 0.8
    assert result.metrics["f1+exact_match"] == pytest.approx(
        (result.metrics["f1"] + result.metrics["exact_match"]) / 2
    )
    assert result.baseline.values["f1"] < 0.6
    row = evaluate_file(out, folder, backbone=t5).rows[1]
    assert (row.label, row.generated, row.score) == (None, row.expected[0], 1.0)


def test_layers_are_pruned_by_what_is_written(tmp_path: Path, t5: Backbone) -> None:
    folder, out = write_answers(tmp_path / "d"), tmp_path / "a.safetensors"
    train(
        quick(folder, out, **FREE | {"method": "hadamard", "lr": 0.1, "epochs": 8}), backbone=t5, verify=agree
    )
    result = prune_file(out, folder, keep=1, backbone=t5, verify=agree)
    smaller = read_adapter_file(Path(result.file.path)).manifest
    assert smaller.head.max_new_tokens is not None
    assert {len(probe.logits) for probe in smaller.probes} == {1}
    assert result.scores[0].metrics == evaluate_file(out, folder, backbone=t5).metrics


def test_each_right_answer_is_an_example_and_none_is_unknown(tmp_path: Path) -> None:
    """ReCoRD as in the Compacter paper's code: named by its data set, read by its own format."""
    folder = write_record(tmp_path / "d")
    data = load_data(quick(folder, tmp_path / "a", form="text-to-text"))
    assert data.official == "superglue-record"
    assert data.task.metric.name == "f1"
    assert len(data.train) == 10 * (1 + 1 + 2)
    assert [example.target for example in data.train.examples[:4]] == [
        ("<unk>",),
        ("w30",),
        ("w1 w2",),
        ("w30",),
    ]
    assert [example.target for example in data.validation.examples[:3]] == [(), ("w30",), ("w1 w2", "w30")]
    assert str(data.train.texts[0]).startswith(
        "record query: Who met @placeholder in 0? entities: w1 w2, w30"
    )
    task = data.task
    assert isinstance(task, FreeText)
    scores = task.found(NO_LOGITS, ["w30", "w30!", "w30"], data.validation.targets[:3])
    assert scores.tolist() == [[0, 0], [1, 1], [1, 1]]
    recipe = load_data(quick(folder, tmp_path / "a", form="text-to-text", recipe="compacter"))
    assert recipe.task.metric.name == "f1+exact_match"


def test_record_goes_the_whole_way(tmp_path: Path, t5: Backbone) -> None:
    folder, out = write_record(tmp_path / "d"), tmp_path / "a.safetensors"
    config = quick(folder, out, form="text-to-text", method="compacter_pp", max_tokens=48,
                   method_config=tiny_options("compacter_pp"))  # fmt: skip
    train(config, backbone=t5, verify=agree)
    probes = read_adapter_file(out).manifest.probes
    assert {probe.target for probe in probes} <= {"<unk>", "w30", "w1 w2"}
    found = evaluate_file(out, folder, backbone=t5)
    assert [row.expected for row in found.rows[:3]] == [[], ["w30"], ["w1 w2", "w30"]]


def test_of_squad_the_first_answer_is_learnt_and_any_is_right(tmp_path: Path) -> None:
    answers = [{"text": ["w1, w3", "w2"], "answer_start": [0, 4]}, {"text": ["w2"], "answer_start": [4]}]
    rows = [
        {"question": f"Who is {i}?", "context": "w1, w3, w2", "answers": answers[i % 2]} for i in range(18)
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    changes = {"form": "text-to-text", "kind": "free_text", "format": "squad"}
    data = load_data(quick(tmp_path, tmp_path / "a", **changes, text_fields=("question", "context")))
    assert set(data.train.targets) == {("w1 , w3",), ("w2",)}
    (tmp_path / "dataset.json").write_text(
        json.dumps({"name": "squad", "text_fields": ["question", "context"]})
    )
    by_name = load_data(quick(tmp_path, tmp_path / "a", form="text-to-text"))
    assert (by_name.task, by_name.train.targets) == (data.task, data.train.targets)
    assert isinstance(data.task, FreeText)
    assert data.task.found(NO_LOGITS, ["the w2"], [("w1", "w2")]).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "found 3; an answer is a text, or a list of right ones"),
        (["a", 3], "an answer is a text"),
        ({"label": "x"}, "an answer is a text"),
        ("  ", "an answer has characters"),
        ([], "an answer has characters"),
        (None, "every row needs a label"),
    ],
)
def test_a_row_without_an_answer_is_named(tmp_path: Path, value: Any, message: str) -> None:
    rows = [{"text": "w1", "answer": "w2"}, {"text": "w3", "answer": value}]
    write_rows(tmp_path / "train.jsonl", rows)
    with pytest.raises(DataError, match=message) as caught:
        load_data(quick(tmp_path, tmp_path / "a", **FREE))
    assert "row 2, field 'answer'" in str(caught.value)


def test_free_text_needs_a_decoder_and_answers(tmp_path: Path, backbone: Backbone, t5: Backbone) -> None:
    folder = write_answers(tmp_path / "d")
    with pytest.raises(ConfigError, match="kind free_text is written by a decoder; give --form text-to-text"):
        load_data(quick(folder, tmp_path / "a", kind="free_text"))
    (folder / "dataset.json").write_text(json.dumps({"kind": "free_text"}))
    with pytest.raises(DataError, match="no head answers it; give --form text-to-text"):
        load_data(quick(folder, tmp_path / "a"))
    with pytest.raises(ConfigError, match="needs an encoder-decoder"):
        train(quick(folder, tmp_path / "a.safetensors", **FREE), backbone=backbone, verify=agree)
    long = {"text": "w1", "answers": " ".join(["w1"] * (t5.max_tokens + 1))}
    for split, row in (("validation", 21), ("train", 61)):
        with (folder / f"{split}.jsonl").open("a") as file:
            file.write(json.dumps(long) + "\n")
        message = rf"answer of {split} row {row} has \d+ tokens; tiny-t5 has \d+ positions"
        with pytest.raises(ConfigError, match=message):
            train(quick(folder, tmp_path / "a.safetensors", **FREE), backbone=t5, verify=agree)


def test_a_format_and_its_data_agree(tmp_path: Path) -> None:
    squad = {"question": "q", "context": "c"}
    config: TrainConfig = quick(
        tmp_path, tmp_path / "a", form="text-to-text", format="squad", text_fields=("question", "context")
    )
    write_rows(tmp_path / "train.jsonl", [squad | {"label": 0}, squad | {"label": 1}] * 9)
    with pytest.raises(DataError, match="format squad: its answers are any text.*give --kind free_text"):
        load_data(config)
    rte = {"sentence1": "w1", "sentence2": "w2", "answer": "w3"}
    write_rows(tmp_path / "r" / "train.jsonl", [rte, rte | {"answer": "w4"}] * 9)
    with pytest.raises(DataError, match="format rte: its answers are label strings"):
        load_data(quick(tmp_path / "r", tmp_path / "a", **FREE, format="rte"))
