"""From files to examples: what is read, what is refused and in which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.conftest import LABELS, Rows, make_rows, write_rows
from training.data.load import load_data
from training.errors import ConfigError, DataError
from training.settings.config import TrainConfig


def load(data: Path, **flags: Any) -> Any:
    return load_data(TrainConfig(data=str(data), task="t", **flags))


def single(tmp_path: Path, rows: Rows) -> Path:
    return write_rows(tmp_path / "rows.jsonl", rows)


EASY: Rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(20)]


def test_a_folder_with_a_card(task_folder: Callable[..., Path]) -> None:
    data = load(task_folder("sentence_pair"))
    assert (len(data.train), len(data.validation), data.reading.fields) == (60, 30, ("text", "text_pair"))
    assert data.task.labels == ("different", "same")
    assert isinstance(data.train.examples[0].text, tuple)
    assert data.train.examples[4].row == 5


@pytest.mark.parametrize("kind", ["single_sentence", "regression", "multi_label"])
def test_every_kind_is_read(task_folder: Callable[..., Path], kind: str) -> None:
    data = load(task_folder(kind))
    expected: dict[str, Any] = {
        "single_sentence": 1,
        "regression": data.train.targets[1],
        "multi_label": (1,),
    }
    assert data.train.targets[1] == expected[kind]
    told = ("numbers are places in label_names: 0 = low, 1 = middle, 2 = high",)
    bare = ("9 train rows have no label at all, which is learnt as such",)
    assert data.notes == {"single_sentence": told, "multi_label": bare, "regression": ()}[kind]


def test_other_names_of_the_validation_file(task_folder: Callable[..., Path]) -> None:
    folder = task_folder()
    (folder / "validation.jsonl").rename(folder / "dev.jsonl")
    assert load(folder).validation.source == "dev.jsonl"
    write_rows(folder / "valid.jsonl", EASY)
    with pytest.raises(DataError, match=r"both dev.jsonl and valid.jsonl are the validation split"):
        load(folder)


def test_without_a_validation_file_a_split_is_drawn_and_told(task_folder: Callable[..., Path]) -> None:
    folder = task_folder()
    (folder / "validation.jsonl").unlink()
    data = load(folder, validation_fraction=0.2)
    assert (len(data.train), len(data.validation)) == (48, 12)
    assert any(
        "12 of 60 rows of train.jsonl are held out, by label and by a hash of the text, with seed 0" in note
        for note in data.notes
    )
    assert load(folder, validation_fraction=0.2).digest == data.digest
    assert load(folder, validation_fraction=0.2, seed=1).digest != data.digest


def test_one_file_with_flags_alone(tmp_path: Path) -> None:
    rows = [{"said": row["text"], "mood": row["label"]} for row in EASY]
    data = load(single(tmp_path, rows), text_fields=("said",), label_field="mood", kind="single_sentence")
    assert data.task.labels == ("a", "b")
    assert "no label_names given: 2 names were taken from the rows" in data.notes


def test_flags_win_over_the_card(task_folder: Callable[..., Path]) -> None:
    data = load(task_folder(), label_names=("one", "two", "three"), metric="macro_f1")
    assert data.task.labels == ("one", "two", "three")
    assert data.task.metric.name == "macro_f1"


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["a", "b"], "single_label"),
        ([["a"], []], "multi_label"),
        ([0.5, 1.5], "regression"),
        ([0, 1], "single_label"),
    ],
)
def test_the_kind_is_taken_from_the_rows_and_told(tmp_path: Path, labels: list[Any], kind: str) -> None:
    data = load(single(tmp_path, [{"text": f"t{i}", "label": labels[i % 2]} for i in range(20)]))
    assert data.task.kind == kind
    assert any("no kind given" in note for note in data.notes)


def test_labels_that_are_numbers_without_names_are_told(tmp_path: Path) -> None:
    data = load(single(tmp_path, [{"text": f"t{i}", "label": (0, 2)[i % 2]} for i in range(20)]))
    assert data.task.labels == ("0", "2")
    assert any("labels are numbers without names" in note for note in data.notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "row 21, field 'label': found null"),
        ({"label": "a"}, "row 21, field 'text': found null"),
        ({"text": None, "label": "a"}, "row 21, field 'text': found null"),
        ({"text": 7, "label": "a"}, "row 21, field 'text': found 7 \\(int\\)"),
        ({"text": "x", "label": None}, "row 21, field 'label': found null"),
        ({"text": "x", "label": "c"}, "row 21, field 'label': found label 'c'; allowed: 'a', 'b'"),
        ({"text": "x", "label": 2}, "row 21, field 'label': found label '2'; allowed: 'a', 'b'"),
        ({"text": "x", "label": -1}, "row 21, field 'label': found label '-1'.*hidden"),
        ({"text": "x", "label": 0.5}, "row 21, field 'label': found label '0.5'"),
        ({"text": "x", "label": {"a": 1}}, "row 21, field 'label': found \\{'a': 1\\} \\(dict\\)"),
    ],
)
def test_a_bad_row_is_named_with_its_field(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = single(tmp_path, [*EASY, row])
    with pytest.raises(DataError, match=f"rows.jsonl, {message}"):
        load(path, label_names=("a", "b"), kind="single_sentence", text_fields=("text",), label_field="label")


@pytest.mark.parametrize("value", ["Infinity", '"abc"', "true", "[1]"])
def test_a_target_that_is_no_number_is_named(tmp_path: Path, value: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(f'{{"text": "t{i}", "label": {i}.5}}\n' for i in range(9))
        + f'{{"text": "x", "label": {value}}}\n'
    )
    with pytest.raises(DataError, match="row 10, field 'label'.*number"):
        load(path, kind="regression")


def test_ten_bad_rows_are_told_at_once_and_no_more(tmp_path: Path) -> None:
    path = single(tmp_path, EASY + [{"text": "x", "label": "c"}] * 30)
    with pytest.raises(DataError) as caught:
        load(path, label_names=("a", "b"))
    assert str(caught.value).count("found label") == 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "empty"),
        ([{"text": f"t{i}", "label": "a"} for i in range(9)], "needs at least two classes"),
        ([{"text": f"t{i}", "label": 1.5} for i in range(9)], "all 8 train rows have the label 1.5"),
        ([{"other": "x", "label": "a"}], "which of the fields label, other is the text"),
        ([{"other": "x", "class": "a"}], "is the text.*--text-fields; none of the fields.*--label-field"),
        ([{"text": "x", "class": "a"}], "none of the fields 'label' and 'labels'"),
    ],
)
def test_data_that_cannot_be_learnt_from(tmp_path: Path, rows: Rows, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(single(tmp_path, rows))


def test_fewer_rows_of_a_sorted_file_keep_its_labels(tmp_path: Path) -> None:
    path = single(tmp_path, sorted(EASY, key=lambda row: str(row["label"])))
    data = load(path, max_train_rows=8)
    assert sorted(data.train.targets) == [0] * 4 + [1] * 4
    assert any("8 of 18 train rows are used, drawn by label with seed 0" in note for note in data.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "multiple_choice"}, "which of the fields label, text are the choices"),
        ({"choice_fields": "text"}, "choice_fields is 'text'; expected a list"),
        ({"kind": "other"}, "kind is 'other'; allowed"),
        ({"text_fields": ["text", "label", "text"]}, "'label' cannot be text and label"),
        ({"text_fields": ["text", "x"]}, "no field 'x' among label, text; name others with --text-fields"),
        ({"text_fields": "text"}, "text_fields is 'text'; expected a list"),
        ({"label_names": ["a", "a"]}, "has a name twice"),
        ({"label_names": ["a", "b" * 300]}, "1 to 200 characters"),
        ({"label_names": ["a", "b\nc"]}, "without control characters"),
    ],
)
def test_a_card_that_cannot_be_used(
    task_folder: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    path = task_folder() / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        load(path.parent)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"kind": "many_choices"}, "kind is 'many_choices'; allowed: .*sentence_pair"),
        (
            {"kind": "sentence_pair", "text_fields": ("text",)},
            r"train.*: kind sentence_pair takes 2 text field\(s\), got 1: text",
        ),
    ],
)
def test_flags_that_do_not_fit_are_settings_to_correct(
    task_folder: Callable[..., Path], flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(task_folder(), **flags)


def test_a_card_that_is_not_json(task_folder: Callable[..., Path]) -> None:
    path = task_folder() / "dataset.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"dataset.json: not JSON"):
        load(path.parent)


def test_a_metric_that_the_task_has_not(task_folder: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="metric is 'pearson'; allowed for a single_label task: accuracy"):
        load(task_folder(), metric="pearson")


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"no file of a split; found readme.txt"):
        load(tmp_path)
    write_rows(tmp_path / "test.jsonl", EASY)
    with pytest.raises(DataError, match=r"no train file; found test.jsonl"):
        load(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere")


def test_texts_on_both_sides_and_empty_texts_are_told(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [*EASY, {"text": " ", "label": "a"}])
    write_rows(tmp_path / "validation.jsonl", EASY[:3])
    notes = load(tmp_path).notes
    assert any("3 of 3 validation texts are also in train" in note for note in notes)
    assert any("1 train rows have an empty text" in note for note in notes)


def test_a_label_of_validation_alone_is_told(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", EASY)
    write_rows(tmp_path / "validation.jsonl", [{"text": "new", "label": "c"}, *EASY[:1]])
    data = load(tmp_path)
    assert data.task.labels == ("a", "b", "c")
    assert any("no train row has the label c (c occur in validation)" in note for note in data.notes)


def test_the_digest_changes_with_every_part_of_the_data(task_folder: Callable[..., Path]) -> None:
    folder = task_folder()
    digests = {load(folder).digest, load(folder, max_train_rows=50).digest}
    digests.add(load(folder, label_names=("x", "y", "z")).digest)
    rows = make_rows("single_sentence", 60, 1)
    rows[7]["label"] = (rows[7]["label"] + 1) % 3
    write_rows(folder / "train.jsonl", rows)
    digests.add(load(folder).digest)
    assert len(digests) == 4
    assert load(folder).task.labels == tuple(LABELS)
