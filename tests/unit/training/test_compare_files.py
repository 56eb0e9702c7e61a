"""Two files on the same rows: differences by hand, words for none, and what cannot be compared."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeling import Backbone
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, make_rows, quick, write_rows, write_task
from training.data.card import Flags
from training.errors import ConfigError, DataError
from training.file.compare import Comparison, compare_files
from training.metrics.paired import Difference, mcnemar
from training.run import train

Build = Callable[..., Path]


@pytest.fixture
def file(tmp_path: Path, backbone: Backbone) -> Build:
    """A file by name, trained on a folder."""

    def build(name: str, data: Path, **changes: Any) -> Path:
        out = tmp_path / f"{name}.safetensors"
        own = changes.pop("backbone", backbone)
        train(quick(data, out, **changes), backbone=own, progress=Told(), verify=agree)
        return out

    return build


def misled(folder: Path) -> Path:
    """The same rows, each with the label of the one before it."""
    for path in folder.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        labels = [row["label"] for row in rows]
        moved = [row | {"label": label} for row, label in zip(rows, labels[-1:] + labels, strict=False)]
        write_rows(folder.with_name("misled") / path.name, moved)
    shutil.copy(folder / "dataset.json", folder.with_name("misled"))
    return folder.with_name("misled")


def test_a_better_file_is_named_with_its_interval(file: Build, tmp_path: Path, backbone: Backbone) -> None:
    folder = write_task(tmp_path / "data", "single_sentence", num_validation=60)
    good, poor = file("good", folder), file("poor", misled(folder))
    found = compare_files(poor, good, folder, "validation", backbone=backbone)
    values = [found.first.value, found.second.value]
    assert found.difference.mean == pytest.approx(values[1] - values[0])
    assert found.better == "good.safetensors"
    assert found.difference.low > 0
    assert found.verdict.startswith("good.safetensors is better: accuracy of good.safetensors minus poor.saf")
    right = [np.array([row.label == row.expected for row in one.rows]) for one in (found.first, found.second)]
    agreement = found.agreement
    assert agreement is not None
    assert agreement.only_first == int((right[0] & ~right[1]).sum())
    assert agreement.only_second == int((right[1] & ~right[0]).sum())
    assert found.p_value == mcnemar(agreement.only_first, agreement.only_second)
    parted = [row.row for row in found.rows]
    assert parted == [found.first.rows[index].row for index in np.flatnonzero(right[0] != right[1])]
    back = compare_files(good, poor, folder, "validation", backbone=backbone)
    assert back.better == "good.safetensors"
    assert back.difference.mean == pytest.approx(-found.difference.mean)


def test_no_difference_is_said_and_then_which_file_is_smaller(
    file: Build, tmp_path: Path, backbone: Backbone
) -> None:
    folder = write_task(tmp_path / "data", "single_sentence")
    probe = file("probe", folder, method="linear_probe")
    more = file("more", folder, epochs=1, lr=1e-6)
    found = compare_files(more, probe, folder, "validation", backbone=backbone)
    assert found.better is None
    assert "no difference in accuracy: " in found.verdict
    assert "which contains nought; probe.safetensors is the smaller file (" in found.verdict
    same = compare_files(probe, probe, folder, "validation", backbone=backbone)
    assert same.rows == ()
    assert "the files are of one size" in same.verdict


@pytest.mark.parametrize(
    ("kind", "metric", "right"),
    [
        ("regression", "mae", False),
        ("regression", "pearson", False),
        ("multi_label", "micro_f1", True),
        ("multi_label", "exact_match", True),
        ("multiple_choice", None, True),
        ("single_sentence", "macro_f1", True),
    ],
)
def test_every_kind_and_metric_is_compared(
    file: Build, tmp_path: Path, backbone: Backbone, kind: str, metric: str | None, right: bool
) -> None:
    folder = write_task(tmp_path / "data", kind)
    good, poor = file("good", folder, epochs=6), file("poor", misled(folder))
    found = compare_files(good, poor, folder, "validation", backbone=backbone, flags=Flags(metric=metric))
    assert found.difference.mean == pytest.approx(found.second.value - found.first.value)
    assert found.difference.low <= found.difference.mean <= found.difference.high
    assert (found.agreement is not None) == right
    better = {"mae": "good.safetensors"}.get(str(metric), "poor.safetensors")  # less of an error is better
    sure = Difference(0.5, 0.4, 0.6, 0.001, "bootstrap", 100)
    assert replace(found, difference=sure).better == better
    told = found.to_dict(with_rows=True)
    assert told["verdict"] == found.verdict
    assert len(told["rows"]) == len(found.rows)


def test_a_few_rows_are_too_few(file: Build, tmp_path: Path, backbone: Backbone) -> None:
    folder = write_task(tmp_path / "data", "single_sentence")
    good, poor = file("good", folder), file("poor", misled(folder))
    few = write_rows(tmp_path / "few.jsonl", make_rows("single_sentence", 6, 5))
    found = compare_files(poor, good, few, backbone=backbone, flags=Flags(kind="single_sentence"))
    assert found.better is None
    assert "6 rows are too few to tell (at least 10)" in found.verdict


def test_other_labels_other_kinds_and_other_backbones(
    file: Build, tmp_path: Path, backbone: Backbone
) -> None:
    folder = write_task(tmp_path / "data", "single_sentence")
    one = file("one", folder)
    rows = [row | {"label": "abc"[row["label"]]} for row in make_rows("single_sentence", 60, 1)]
    for split in ("train", "validation"):
        write_rows(tmp_path / "other" / f"{split}.jsonl", rows)
    other = file("other", tmp_path / "other", kind="single_sentence")
    with pytest.raises(
        DataError, match=r"other labels: \['high', .* in one.safetensors alone; \['a', 'b', 'c'\]"
    ):
        compare_files(one, other, folder, "validation", backbone=backbone)
    number = file("number", write_task(tmp_path / "number", "regression"))
    with pytest.raises(DataError, match="the data is single_sentence, the adapter regression"):
        compare_files(one, number, folder, "validation", backbone=backbone)
    elsewhere = file("elsewhere", folder, backbone=tiny_backbone("bert", seed=3))
    with pytest.raises(ConfigError, match="the files were trained on two .* leave it out"):
        compare_files(one, elsewhere, folder, "validation", backbone_name="minilm")


def test_files_of_two_forms_are_compared_by_the_names_of_the_data(tmp_path: Path) -> None:
    """A head and a decoder that writes the labels, on one encoder-decoder."""
    from tests.unit.training.conftest import write_text_task

    folder, t5 = write_text_task(tmp_path / "data"), tiny_backbone("t5")
    head, text = tmp_path / "head.safetensors", tmp_path / "text.safetensors"
    train(quick(folder, head), backbone=t5, progress=Told(), verify=agree)
    config = quick(folder, text, form="text-to-text", targets="words", method="bitfit")
    train(config, backbone=t5, progress=Told(), verify=agree)
    found = compare_files(head, text, folder, "validation", backbone=t5)
    assert found.metric == "accuracy"
    assert found.difference.mean == pytest.approx(found.second.value - found.first.value)


def test_files_of_one_name_are_told_apart(file: Build, tmp_path: Path, backbone: Backbone) -> None:
    folder = write_task(tmp_path / "data", "single_sentence")
    one = file("one", folder)
    (tmp_path / "copy").mkdir()
    other = tmp_path / "copy" / one.name
    other.write_bytes(one.read_bytes())
    found: Comparison = compare_files(one, other, folder, "validation", backbone=backbone)
    assert found.names == (str(one), str(other))
