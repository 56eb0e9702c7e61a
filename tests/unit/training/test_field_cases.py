"""Kinds of data files that people sent and that were once learnt wrongly, or refused in the wrong words.

Each is a kind, with rows of our own: a row has its own label in every format, or one sentence says why not.
"""

import json
import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from tests.unit.training.conftest import write_rows
from tests.written_tables import FORMATS, Format, Sheet
from training.data.load import TaskData, load_data
from training.errors import DataError
from training.settings.config import TrainConfig

SOME_FORMATS = [form for form in FORMATS if form.name in ("JSON Lines", "CSV by Python", "Parquet")]
in_formats = pytest.mark.parametrize("form", SOME_FORMATS, ids=lambda form: form.ending)


def texts(count: int) -> list[str]:
    return [f"the parcel number {row} is late" for row in range(count)]


def write(folder: Path, form: Format, labels: Sequence[Any], split: str = "train") -> Path:
    form.save(folder, split, Sheet({"text": texts(len(labels)), "label": list(labels)}, {}))
    return folder


def load(data: Path, **flags: Any) -> TaskData:
    return load_data(TrainConfig(data=str(data), task="t", **flags))


def told_labels(data: TaskData) -> list[Any]:
    """Of all rows in the file's order, those that were held out among them."""
    rows = {
        row.row: data.task.told(row.target)
        for split in (data.train, data.validation)
        for row in split.examples
    }
    return [rows[number] for number in sorted(rows)]


def refusal(data: Path, **flags: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(data, **flags)
    return str(caught.value)


def has_note(data: TaskData, *words: str) -> bool:
    return any(all(word in note for word in words) for note in data.notes)


@in_formats
@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param(
            [0.0, 1.0, 2.0, 3.0, 10.0, 11.0], ["0", "1", "2", "3", "10", "11"], id="floats above nine"
        ),
        pytest.param([1.0, 2.0, 3.0, 4.0, 5.0], ["1", "2", "3", "4", "5"], id="stars as floats"),
        pytest.param([4, 3, 2, 1], ["4", "3", "2", "1"], id="from one"),
        pytest.param([-1, 0, 1], ["-1", "0", "1"], id="negative"),
        pytest.param(
            [300000000007, 300000000009], ["300000000007", "300000000009"], id="as large as telephone numbers"
        ),
        pytest.param([70001, 70004], ["70001", "70004"], id="sparse"),
        pytest.param([2022, 2024, 2023], ["2022", "2024", "2023"], id="years"),
        pytest.param(["007", "7", "07"], ["007", "7", "07"], id="codes that differ by noughts"),
        pytest.param(["01", "02"], ["01", "02"], id="padded codes"),
        pytest.param([True, False], ["true", "false"], id="booleans"),
    ],
)
def test_labels_without_names_are_themselves(
    tmp_path: Path, form: Format, values: list[Any], names: list[str]
) -> None:
    data = load(write(tmp_path, form, values * 4))
    assert told_labels(data) == names * 4
    assert sorted(data.task.class_names) == sorted(names)


@in_formats
@pytest.mark.parametrize("values", [[2, 3, 4], [2, 3, 4, 5]], ids=["without the last", "with the last"])
def test_a_number_that_is_the_text_of_a_name_is_that_name(
    tmp_path: Path, form: Format, values: list[int]
) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"label_names": ["1", "2", "3", "4", "5"]}))
    assert told_labels(load(write(tmp_path, form, values * 4))) == [str(value) for value in values] * 4


@in_formats
def test_numbers_of_which_some_are_names_and_some_places_are_refused(tmp_path: Path, form: Format) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"label_names": ["1", "2", "3"]}))
    message = refusal(write(tmp_path, form, [0, 1, 2] * 4))
    assert "found label '0'; allowed: '1', '2', '3'" in message
    assert "is a name, so no number is a place" in message


@pytest.mark.parametrize("bits", [(0, 1), (0.0, 1.0), (False, True)], ids=["whole", "floats", "booleans"])
@pytest.mark.parametrize("empty", [False, True], ids=["each with a label", "one with none"])
def test_noughts_and_ones_are_labels_by_place(tmp_path: Path, bits: tuple[Any, Any], empty: bool) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"label_names": ["spam", "abuse", "ads"]}))
    no, yes = bits
    rows = [[no, yes, no], [yes, no, yes], [no, no, no] if empty else [no, no, yes]]
    data = load(write(tmp_path, SOME_FORMATS[0], rows * 4))
    assert told_labels(data) == [["abuse"], ["spam", "ads"], [] if empty else ["ads"]] * 4
    assert has_note(data, "a label is a list of 3 noughts and ones")


def test_a_label_twice_in_one_row_is_never_silently_one(tmp_path: Path) -> None:
    rows = [["spam", "ads"], ["spam", "spam"]]
    assert "row 2, field 'label'" in refusal(write(tmp_path, SOME_FORMATS[0], rows * 4))


@in_formats
@pytest.mark.parametrize("gap", [0, 7], ids=["first row", "a later row"])
def test_a_second_text_that_a_row_lacks_is_refused_and_never_ignored(
    tmp_path: Path, form: Format, gap: int
) -> None:
    pairs = [f"it comes on day {row}" if row != gap else None for row in range(12)]
    sheet = Sheet(
        {"text": texts(12), "text_pair": pairs, "label": ["yes", "no"] * 6}, {"text_pair": pa.string()}
    )
    form.save(tmp_path, "train", sheet)
    if form.ending == ".csv":  # it has no gaps: the text is empty
        data = load(tmp_path)
        assert data.reading.fields == ("text", "text_pair")
        assert (texts(12)[gap], "") in [*data.train.texts, *data.validation.texts]
        return
    message = refusal(tmp_path)
    assert f"row {gap + 1}, field 'text_pair': found null" in message
    assert "--text-fields" in message


@pytest.mark.parametrize(
    "cells",
    [
        ["late,broken", "late", "broken", "late,broken"],
        ["late; broken", "late", "broken", "broken; late"],
        ["late|broken", "late", "broken", "late|broken"],
        ["['late', 'broken']", "['late']", "['broken']", "['broken', 'late']"],
        ['["late", "broken"]', '["late"]', '["broken"]', '["late","broken"]'],
    ],
    ids=["comma", "semicolon", "bar", "printed by Python", "printed as JSON"],
)
@pytest.mark.parametrize("kind", ["multi_label", None])
def test_a_cell_with_several_labels_is_read_as_such(
    tmp_path: Path, cells: list[str], kind: str | None
) -> None:
    data = load(write(tmp_path, SOME_FORMATS[1], cells * 3), kind=kind)
    both = ["broken", "late"]
    assert told_labels(data) == [both, ["late"], ["broken"], both] * 3
    assert data.task.class_names == ("broken", "late")


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    long = "late again " * 40_000
    sheet = Sheet({"text": [*texts(11), long], "label": ["a", "b"] * 6}, {})
    SOME_FORMATS[1].save(tmp_path, "train", sheet)
    data = load(tmp_path)
    assert long in [*data.train.texts, *data.validation.texts]


@pytest.mark.parametrize("comma", ["", ", please"], ids=["plain", "commas in the texts"])
def test_what_a_spreadsheet_saves_with_semicolons_is_read(tmp_path: Path, comma: str) -> None:
    lines = ["text;label", *(f"{text}{comma};{'ab'[row % 2]}" for row, text in enumerate(texts(12)))]
    (tmp_path / "train.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    data = load(tmp_path)
    assert told_labels(data) == ["a", "b"] * 6
    assert data.train.examples[0].text in [f"{text}{comma}" for text in texts(12)]
    assert has_note(data, "columns are separated by ';'")


@pytest.mark.parametrize("name", ["", "Unnamed: 0"], ids=["without a name", "with a library's name"])
def test_a_column_of_row_numbers_is_left_out_and_told(tmp_path: Path, name: str) -> None:
    lines = [f"{name},text,label", *(f"{row},{text},{'ab'[row % 2]}" for row, text in enumerate(texts(12)))]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    data = load(tmp_path)
    assert told_labels(data) == ["a", "b"] * 6
    assert data.reading.fields == ("text",)
    assert data.page.ignored_fields == ((name,) if name else ())
    assert has_note(data, "without a name") is not bool(name)


def hub_table(labels: Sequence[int], names: Sequence[str]) -> Any:
    table = pa.table({"text": texts(len(labels)), "label": labels})
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def test_class_names_of_the_hub_are_the_label_names(tmp_path: Path) -> None:
    parquet.write_table(hub_table([2, 0, 1] * 4, ["fine", "late", "lost"]), tmp_path / "train.parquet")
    data = load(tmp_path)
    assert told_labels(data) == ["lost", "fine", "late"] * 4
    assert data.task.class_names == ("fine", "late", "lost")
    assert has_note(data, "0 = fine, 1 = late, 2 = lost")


def test_names_that_were_given_go_before_those_of_the_hub(tmp_path: Path) -> None:
    parquet.write_table(hub_table([1, 0] * 6, ["fine", "late"]), tmp_path / "train.parquet")
    assert told_labels(load(tmp_path, label_names=("good", "bad"))) == ["bad", "good"] * 6


@pytest.mark.parametrize("folder", [".", "data"])
def test_shards_of_a_split_are_read_together_in_order(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for shard in (1, 0):
        table = pa.table(
            {"text": [f"shard {shard}: {text}" for text in texts(6)], "label": [shard, shard + 1] * 3}
        )
        parquet.write_table(table, tmp_path / folder / f"train-0000{shard}-of-00002.parquet")
    data = load(tmp_path)
    assert told_labels(data) == ["0", "1"] * 3 + ["1", "2"] * 3
    (tmp_path / folder / "train-00000-of-00002.parquet").unlink()
    assert "number 0 is missing" in refusal(tmp_path)


def test_a_folder_that_the_data_set_library_saved_is_read(tmp_path: Path) -> None:
    table = hub_table([1, 0] * 6, ["fine", "late"])
    files = [{"filename": f"data-0000{shard}-of-00002.arrow"} for shard in range(2)]
    for shard, file in enumerate(files):
        with ipc.new_stream(str(tmp_path / file["filename"]), table.schema) as writer:
            writer.write_table(table.slice(6 * shard, 6))
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": files, "_indices_data_files": None}))
    assert told_labels(load(tmp_path)) == ["late", "fine"] * 6


def test_one_row_of_each_label_says_why_none_can_be_held_out_and_what_helps(tmp_path: Path) -> None:
    rows = [{"text": text, "label": f"queue {row}"} for row, text in enumerate(texts(12))]
    message = refusal(write_rows(tmp_path / "train.jsonl", rows))
    assert "one row" in message
    assert "validation file" in message


def test_texts_with_two_labels_are_told_with_two_rows(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text in texts(10) for label in ("late", "fine")]
    data = load(write_rows(tmp_path / "train.jsonl", rows))
    assert has_note(data, "10 train texts have different labels", "rows 1 and 2: 'late' and 'fine'")


def test_sets_of_labels_that_occur_once_are_held_out_like_others(tmp_path: Path) -> None:
    names = [f"tag {number:02}" for number in range(12)]
    sets = [list(found) for size in (1, 2, 3) for found in combinations(names, size)]
    chosen = random.Random(7).sample(sets, 80)
    rows = [{"text": text, "label": found} for text, found in zip(texts(80), chosen, strict=True)]
    data = load(write_rows(tmp_path / "train.jsonl", rows), kind="multi_label", validation_fraction=0.2)
    kept, held = (
        sum(len(data.task.told(target)) for target in split.targets) / len(split)
        for split in (data.train, data.validation)
    )
    assert len(data.validation) == pytest.approx(16, abs=4)
    assert held == pytest.approx(kept, rel=0.25)
