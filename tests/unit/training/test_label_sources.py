"""Labels of several files: names in metadata, hidden and blank labels of a test file, one-hot columns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from training.data.load import TaskData, load_data
from training.errors import DataError
from training.settings.config import TrainConfig


def load(data: Path, **flags: Any) -> TaskData:
    return load_data(TrainConfig(data=str(data), task="t", **flags))


def hub(path: Path, labels: Sequence[Any], names: Sequence[str]) -> None:
    """A file as the hub has it: whole numbers, and their names in the metadata."""
    feature: dict[str, Any] = {"names": list(names), "_type": "ClassLabel"}
    if isinstance(labels[0], list):
        feature = {"feature": feature, "_type": "Sequence"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": feature}
    table = pa.table({"text": [f"{path.stem} {i}" for i in range(len(labels))], "label": list(labels)})
    parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path
    )


def lines(path: Path, labels: Sequence[Any]) -> None:
    rows = [{"text": f"{path.stem} {i}", "label": label} for i, label in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    head = ",".join(rows[0])
    path.write_text("\n".join([head, *(",".join(map(str, row.values())) for row in rows)]) + "\n")


def named(data: TaskData, split: str = "validation") -> list[Any]:
    examples = (data.train if split == "train" else data.validation).examples
    return [data.task.told(example.target) for example in examples]


def test_each_file_has_its_own_order_of_names(tmp_path: Path) -> None:
    hub(tmp_path / "train.parquet", [0, 1] * 4, ["neg", "pos"])
    hub(tmp_path / "validation.parquet", [0, 0, 1], ["pos", "neg"])
    data = load(tmp_path)
    assert data.task.labels == ("neg", "pos")
    assert named(data) == ["pos", "pos", "neg"]
    assert any("its metadata names the labels: 0 = pos, 1 = neg" in note for note in data.notes)


def test_names_in_metadata_that_are_numbers_stand_for_places(tmp_path: Path) -> None:
    hub(tmp_path / "train.parquet", [0, 1, 2, 1] * 3, ["-1", "0", "1"])
    data = load(tmp_path, validation_fraction=0.3)
    assert sorted({*named(data), *named(data, "train")}) == ["-1", "0", "1"]
    assert [data.train.targets.count(i) + data.validation.targets.count(i) for i in range(3)] == [3, 6, 3]


def test_metadata_beside_words_and_lists(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", ["neg", "pos"] * 4)
    hub(tmp_path / "validation.parquet", [0, 1], ["pos", "neg"])
    assert named(load(tmp_path)) == ["pos", "neg"]
    several = tmp_path / "several.parquet"
    hub(several, [[0, 1], [1], []] * 4, ["a", "b"])
    data = load(several, validation_fraction=0.3)
    assert {tuple(names) for names in named(data, "train")} == {("a", "b"), ("b",), ()}


def test_names_that_are_given_win_over_those_in_the_metadata(tmp_path: Path) -> None:
    hub(tmp_path / "train.parquet", [0, 1] * 4, ["LABEL_0", "LABEL_1"])
    hub(tmp_path / "validation.parquet", [1, 0], ["LABEL_0", "LABEL_1"])
    assert named(load(tmp_path, label_names=("bad", "good"))) == ["good", "bad"]
    assert named(load(tmp_path, label_names=("LABEL_1", "LABEL_0"))) == ["LABEL_1", "LABEL_0"]


def test_names_that_are_partly_those_of_the_metadata_are_met_by_name(tmp_path: Path) -> None:
    hub(tmp_path / "train.parquet", [0, 2] * 4, ["neg", "neu", "pos"])
    hub(tmp_path / "validation.parquet", [0, 2], ["neg", "neu", "pos"])
    assert named(load(tmp_path, label_names=("pos", "other", "neg"))) == ["neg", "pos"]
    assert named(load(tmp_path, label_names=("neg", "pos"))) == ["neg", "pos"]
    lines(tmp_path / "validation.jsonl", [2, 0])
    (tmp_path / "validation.parquet").unlink()
    assert named(load(tmp_path)) == ["pos", "neg"]


def test_a_name_twice_in_the_metadata_is_refused(tmp_path: Path) -> None:
    hub(tmp_path / "train.parquet", [0, 1, 2] * 4, ["neg", "neg", "pos"])
    with pytest.raises(DataError, match="its metadata has a name twice: neg, neg, pos"):
        load(tmp_path)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("hidden", [-1, None])
@pytest.mark.parametrize("names", [None, ("no", "yes")])
def test_a_test_file_with_hidden_labels_is_left_out(
    tmp_path: Path, ending: str, hidden: int | None, names: tuple[str, ...] | None
) -> None:
    lines(tmp_path / "train.jsonl", [0, 1] * 6)
    if ending == "jsonl":
        lines(tmp_path / "test.jsonl", [hidden] * 3)
    else:
        shown = "" if hidden is None else hidden
        table(tmp_path / "test.csv", [{"text": f"t{i}", "label": shown} for i in range(3)])
    data = load(tmp_path, label_names=names)
    assert data.task.labels == (names or ("0", "1"))
    assert any(f"test.{ending} has no labels: the test rows are left out" in note for note in data.notes)


COLUMNS = [{"text": f"t{i}", "toxic": i % 2, "insult": i % 3 // 2, "threat": i % 5 // 4} for i in range(30)]


def test_one_hot_columns_are_several_labels(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", COLUMNS)
    data = load(tmp_path / "train.csv")
    assert (data.task.kind, data.task.labels) == ("multi_label", ("toxic", "insult", "threat"))
    assert data.page.label_field == "toxic,insult,threat"
    rows = {example.row: example.target for example in (*data.train.examples, *data.validation.examples)}
    assert [rows[i + 2] for i in (1, 2, 29)] == [(0,), (1,), (0, 1, 2)]
    assert load(tmp_path / "train.csv", label_field="toxic,threat").task.labels == ("toxic", "threat")
    assert any("no kind given: taken as multi_label" in note for note in data.notes)


@pytest.mark.parametrize("odd", ["", "2"])
def test_a_column_with_one_odd_cell_is_not_left_out(tmp_path: Path, odd: str) -> None:
    table(tmp_path / "train.csv", [*COLUMNS, {"text": "x", "toxic": 1, "insult": 0, "threat": odd}])
    with pytest.raises(
        DataError, match=r"train.csv, row 32, field 'toxic,insult,threat'.*3 noughts and ones"
    ):
        load(tmp_path / "train.csv")


def test_names_of_columns_are_met_by_name_or_all_new(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", COLUMNS)
    data = load(tmp_path / "train.csv", label_field="toxic,insult", label_names=("insult", "toxic"))
    rows = {example.row: example.target for example in (*data.train.examples, *data.validation.examples)}
    assert (data.task.labels, rows[3]) == (("insult", "toxic"), (1,))
    assert load(tmp_path / "train.csv", label_field="toxic,insult", label_names=("x", "y")).task.labels == (
        "x",
        "y",
    )
    with pytest.raises(DataError, match="name the columns as they are, or each anew"):
        load(tmp_path / "train.csv", label_field="toxic,insult", label_names=("toxic", "y"))


def test_a_label_is_text_that_can_be_written(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", ["\ud83d", "b"] * 4)
    with pytest.raises(DataError, match="half emojis"):
        load(tmp_path / "train.jsonl")


def test_a_missing_value_is_no_label_of_several_in_every_format(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", [["a"], ["b"], None] * 4)
    table(tmp_path / "train.csv", [{"text": f"t{i}", "label": ("a", "b", "")[i % 3]} for i in range(12)])
    for name in ("train.jsonl", "train.csv"):
        data = load(tmp_path / name, kind="multi_label", validation_fraction=0.3)
        assert set(data.train.targets) == {(0,), (1,), ()}
        assert any("train rows have no label" in note for note in data.notes)


def test_the_header_again_in_the_middle_of_a_file_is_refused(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "ab"[i % 2]} for i in range(10)]
    table(tmp_path / "train.csv", [*rows, {"text": "text", "label": "label"}, *rows])
    with pytest.raises(
        DataError, match="train.csv, row 12, field 'label': found the header again; remove the row"
    ):
        load(tmp_path / "train.csv")


def test_data_files_that_are_of_no_split_are_told(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", ["a", "b"] * 6)
    lines(tmp_path / "holdout.jsonl", ["a", "b"])
    assert "not read, as of no split: holdout.jsonl" in load(tmp_path).notes


def test_choices_make_a_multiple_choice(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "choices": [f"x{i}", f"y{i}"], "label": i % 2} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load(tmp_path / "train.jsonl")
    assert (data.card.kind, data.task.class_names) == ("multiple_choice", ("0", "1"))
    (tmp_path / "train.csv").write_text(
        "text,choices,label\n" + "".join(f"t{i},\"['x{i}', 'y{i}']\",{i % 2}\n" for i in range(12))
    )
    assert load(tmp_path / "train.csv").digest == data.digest


def test_labels_of_a_test_file_that_are_none_are_told(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", [0, 1] * 6)
    lines(tmp_path / "test.jsonl", [0, 5])
    notes = load(tmp_path, label_names=("a", "b")).notes
    assert any("none of the task's: test.jsonl, row 2: found label '5'" in note for note in notes)


def test_one_empty_text_of_two_is_told(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "text_pair": "" if i == 4 else "x", "label": "ab"[i % 2]} for i in range(20)]
    table(tmp_path / "train.csv", rows)
    table(tmp_path / "validation.csv", rows[:2])
    notes = load(tmp_path).notes
    assert "1 of 20 train rows have one empty text of several (row 6)" in notes


def test_a_column_of_splits_is_told_and_a_text_is_no_label(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "split": "train", "label": "ab"[i % 2]} for i in range(20)]
    table(tmp_path / "train.csv", rows)
    assert "the field 'split' is not used: write a file for each split" in load(tmp_path).notes
    with pytest.raises(DataError, match="'text' cannot be text and label"):
        load(tmp_path, label_field="text")


def test_too_many_labels_are_refused_at_once(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", [{"text": f"t{i}", "label": f"l{i}; m"} for i in range(10_001)])
    with pytest.raises(DataError, match="10001 different labels; at most 10000: is the label field right?"):
        load(tmp_path)


@pytest.mark.parametrize("blank", [None, "yes"])
def test_columns_of_noughts_and_ones_hold_nothing_else(tmp_path: Path, blank: str | None) -> None:
    rows = [{"text": f"t{i}", "a": 1, "b": i % 2 or blank} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"row 1, field 'a,b': found \[1, .*\]; a row is a list of 2 noughts"):
        load(tmp_path, label_field="a,b")


@pytest.mark.parametrize("mark", [-1, -1.0, "-1"])
def test_what_is_no_label_is_named_and_what_is_hidden_is_not(tmp_path: Path, mark: object) -> None:
    lines(tmp_path / "train.jsonl", [1.0, 0.0] * 6)
    lines(tmp_path / "test.jsonl", [mark] * 3)
    assert any("test rows are left out" in note for note in load(tmp_path).notes)
    (tmp_path / "validation.jsonl").write_text(
        '{"text": "x", "label": Infinity}\n{"text": "y", "label": 1}\n'
    )
    with pytest.raises(DataError, match="validation.jsonl, row 1, field 'label': found inf"):
        load(tmp_path)


def test_a_letter_is_no_place_of_a_choice(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "choices": ["x", "y"], "label": "AB"[i % 2]} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="label 'A'; allowed: '0', '1'.*the place of the right choice"):
        load(tmp_path / "train.jsonl")
