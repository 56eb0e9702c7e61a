"""A file against data through the serving form: equal to what the trainer recorded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters_store.adapter_file import read_adapter_file
from modeling import Backbone
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, make_rows, quick, write_rows, write_task
from training.data.card import Flags
from training.errors import ConfigError, DataError
from training.file.evaluate import evaluate_file
from training.rows.items import ChoiceItem, Item
from training.run import train


@pytest.fixture
def trained(task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone) -> Callable[..., Any]:
    def build(kind: str = "single_sentence", **changes: Any) -> tuple[Path, Path]:
        folder, out = task_folder(kind), tmp_path / "a.safetensors"
        train(quick(folder, out, **changes), backbone=backbone, progress=Told(), verify=agree)
        return out, folder

    return build


@pytest.mark.parametrize(
    "kind", ["single_sentence", "sentence_pair", "regression", "multi_label", "multiple_choice"]
)
def test_serving_gives_the_metrics_and_logits_that_the_trainer_recorded(
    trained: Callable[..., Any], backbone: Backbone, kind: str
) -> None:
    out, folder = trained(kind)
    found = evaluate_file(out, folder, backbone=backbone)
    manifest = read_adapter_file(out).manifest
    assert manifest.metrics is not None
    assert found.metrics == pytest.approx(manifest.metrics.values, abs=1e-4)
    texts = {text: row.logits for text, row in zip(found.texts, found.rows, strict=True)}
    for probe in manifest.probes:
        key: Item = probe.text if probe.text_pair is None else (probe.text, probe.text_pair)
        if probe.choices is not None:
            key = ChoiceItem(probe.text, tuple(probe.choices))
        np.testing.assert_allclose(texts[key], probe.logits, rtol=1e-5, atol=1e-5)


def test_every_row_is_told(trained: Callable[..., Any], backbone: Backbone) -> None:
    out, folder = trained("multi_label")
    found = evaluate_file(out, folder, backbone=backbone)
    assert (found.split, found.source, len(found.rows)) == ("validation", "validation.jsonl", 30)
    row = found.rows[3]
    assert row.row == 4
    assert row.expected == ["low"]
    assert isinstance(row.label, list)
    assert len(row.logits) == 3
    assert not row.truncated
    plain = json.loads(json.dumps(found.to_dict(with_rows=True)))
    assert plain["rows"][3]["row"] == 4
    assert "rows" not in found.to_dict()


def test_a_choice_is_told_by_its_number_as_the_server_does(
    trained: Callable[..., Any], backbone: Backbone
) -> None:
    out, folder = trained("multiple_choice")
    found = evaluate_file(out, folder, backbone=backbone)
    row = found.rows[0]
    assert row.expected in ("0", "1")
    assert row.label == str(np.argmax(row.logits))
    assert len(row.logits) == 2
    first = found.texts[0]
    assert isinstance(first, ChoiceItem)
    assert found.inputs[0] == {"text": first.text, "choices": list(first.choices)}
    right = sum(row.label == row.expected for row in found.rows)
    assert found.metrics == {"accuracy": pytest.approx(right / len(found.rows))}


def test_another_split_a_file_and_fewer_rows(
    trained: Callable[..., Any], backbone: Backbone, tmp_path: Path
) -> None:
    out, folder = trained()
    assert len(evaluate_file(out, folder, "train", backbone=backbone).rows) == 60
    single = write_rows(tmp_path / "other" / "more.jsonl", make_rows("single_sentence", 12, 9))
    found = evaluate_file(out, single, backbone=backbone, flags=Flags(kind="single_sentence"), max_rows=7)
    assert (found.split, len(found.rows)) == ("all rows", 7)
    with pytest.raises(DataError, match="no test file; there are train, validation"):
        evaluate_file(out, folder, "test", backbone=backbone)


def test_labels_are_matched_by_name(trained: Callable[..., Any], backbone: Backbone) -> None:
    out, folder = trained()
    before = evaluate_file(out, folder, backbone=backbone).metrics
    card = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(
        json.dumps(card | {"label_names": ["high", "low", "middle", "other"]})
    )
    for name in ("train.jsonl", "validation.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        write_rows(folder / name, [row | {"label": (row["label"] + 1) % 3} for row in rows])
    assert evaluate_file(out, folder, backbone=backbone).metrics == before
    write_rows(folder / "validation.jsonl", [{"text": "w1", "label": 3}])
    with pytest.raises(
        DataError,
        match="row 1, field 'label': found label 'other'; allowed: 'low', 'middle', 'high'; evaluate it on",
    ):
        evaluate_file(out, folder, backbone=backbone)


def test_another_backbone_of_the_same_shape_is_refused(trained: Callable[..., Any]) -> None:
    out, folder = trained()
    with pytest.raises(ConfigError, match="was trained on tiny-bert"):
        evaluate_file(out, folder, backbone=tiny_backbone("bert", seed=1))


def test_what_does_not_fit_is_named(trained: Callable[..., Any], backbone: Backbone, tmp_path: Path) -> None:
    out, folder = trained()
    with pytest.raises(DataError, match="the data is regression, the adapter single_label"):
        evaluate_file(out, folder, backbone=backbone, flags=Flags(kind="regression"))
    choices = write_task(tmp_path / "choices", "multiple_choice")
    with pytest.raises(DataError, match="the data is multiple_choice, the adapter single_label; take other"):
        evaluate_file(out, choices, backbone=backbone)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(out.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"broken.safetensors: "):
        evaluate_file(broken, folder, backbone=backbone)
    with pytest.raises(DataError, match=r"nowhere.safetensors"):
        evaluate_file(tmp_path / "nowhere.safetensors", folder, backbone=backbone)
    with pytest.raises(ConfigError, match="metric is 'mae'"):
        evaluate_file(out, folder, backbone=backbone, flags=Flags(metric="mae"))


def test_what_flags_said_in_training_need_not_be_said_again(backbone: Backbone, tmp_path: Path) -> None:
    rows = [{"q": f"w{i}", "gold": i % 2, "note": "x"} for i in range(40)]
    for split in ("train", "validation"):
        write_rows(tmp_path / "d" / f"{split}.jsonl", rows)
    out = tmp_path / "a.safetensors"
    said = {"kind": "single_sentence", "text_fields": ("q",), "label_field": "gold"}
    train(quick(tmp_path / "d", out, **said), backbone=backbone, verify=agree)
    assert len(evaluate_file(out, tmp_path / "d", backbone=backbone).rows) == 40


def test_a_number_may_have_a_name_in_the_card(trained: Callable[..., Any], backbone: Backbone) -> None:
    """The card's one label name is what the number is called, not a class to be put in order."""
    out, folder = trained("regression")
    before = evaluate_file(out, folder, backbone=backbone).metrics
    card = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(card | {"label_names": ["urgency"]}))
    assert evaluate_file(out, folder, backbone=backbone).metrics == before
