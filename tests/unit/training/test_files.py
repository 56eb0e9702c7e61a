"""Which files are which split, in folders as people, the hub and the `datasets` library make them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc

from training.errors import DataError
from training.rows.files import find_splits
from training.rows.tables import read_table


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text,label\na,b\n")
    return folder


def names_of(folder: Path) -> dict[str, list[str]]:
    found = find_splits(folder)
    return {split: [str(path.relative_to(folder)) for path in files] for split, files in found.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train.csv"], {"train": ["train.csv"]}),
        (
            ["dev.jsonl", "README.md", "test.tsv.gz", "dataset.json", "Train.PARQUET", "other.csv"],
            {"train": ["Train.PARQUET"], "validation": ["dev.jsonl"], "test": ["test.tsv.gz"]},
        ),
        (["training.csv", "val.csv"], {"train": ["training.csv"], "validation": ["val.csv"]}),
        (
            ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet"],
            {"train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]},
        ),
        (
            ["data/train-00000-of-00001-0a1b2c3d.parquet", "data/test-00000-of-00001.parquet"],
            {
                "train": ["data/train-00000-of-00001-0a1b2c3d.parquet"],
                "test": ["data/test-00000-of-00001.parquet"],
            },
        ),
        (
            ["train/0001.parquet", "train/0000.parquet", "validation/0000.parquet"],
            {
                "train": ["train/0000.parquet", "train/0001.parquet"],
                "validation": ["validation/0000.parquet"],
            },
        ),
        (["data/train/part-0.csv"], {"train": ["data/train/part-0.csv"]}),
        (["data/train.csv", "notes.csv"], {"train": ["data/train.csv"]}),
        (
            [f"train_{number}.csv" for number in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)],
            {"train": [f"train_{number}.csv" for number in range(1, 11)]},
        ),
        (["train/my rows.csv", "train/a.csv"], {"train": ["train/a.csv", "train/my rows.csv"]}),
        (["train/2019.csv", "train/2021.csv"], {"train": ["train/2019.csv", "train/2021.csv"]}),
        (["train/2020-01.csv", "train/2020-02.csv"], {"train": ["train/2020-01.csv", "train/2020-02.csv"]}),
    ],
)
def test_splits_are_found(tmp_path: Path, names: list[str], expected: dict[str, list[str]]) -> None:
    assert names_of(folder_of(tmp_path, *names)) == expected


def test_a_file_is_the_train_split(tmp_path: Path) -> None:
    path = folder_of(tmp_path, "rows.csv") / "rows.csv"
    assert find_splits(path) == {"train": (path,)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no file of a split; found nothing"),
        (
            ["tickets.csv"],
            "no file of a split; found tickets.csv; give a file itself, the folder where it is, or name it",
        ),
        (["plain_text/train.csv"], "no file of a split; found plain_text/train.csv"),
        (["train.csv", "train.jsonl"], "both train.csv and train.jsonl are the train split"),
        (["dev.csv", "validation.csv"], "both dev.csv and validation.csv are the validation split"),
        (["train.csv", "data/train.csv"], "both train.csv and data/train.csv are the train split"),
        (["train.csv", "train/0.csv"], "both train.csv and train/0.csv are the train split"),
        (
            ["train.csv", "train-00000-of-00001.csv"],
            "both train-00000-of-00001.csv and train.csv are the train",
        ),
        (["train-00000-of-00001.csv", "train-00000-of-00002.csv"], "both .* are the train split"),
        (["train-00000-of-00003.csv", "train-00002-of-00003.csv"], "number 1 is missing"),
        (["data/train-00000-of-00002.parquet"], "number 1 is missing"),
        (["train/0000.parquet", "train/0002.parquet"], "number 1 is missing"),
        (["train/0001.parquet", "train/0003.parquet"], "number 2 is missing"),
        (["train/0002.parquet", "train/0003.parquet"], "number 1 is missing"),
        (["train/0-of-2.csv", "train/1-of-2.csv", "train/0-of-1.csv"], "are not of one series"),
        (["train/0.csv", "train/1.jsonl"], "0.csv and 1.jsonl are not of one series"),
    ],
)
def test_what_is_not_clear_is_refused_by_name(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_splits(folder_of(tmp_path, *names))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_splits(tmp_path / "nothing")


def saved(folder: Path, num_files: int = 2, **state: object) -> Path:
    """As `Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{num_files:05}.arrow" for i in range(num_files)]
    for number, name in enumerate(names):
        table = pa.table({"text": [f"{folder.name} {number}"]})
        with ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    (folder / "cache-0123456789abcdef.arrow").write_bytes(b"of an earlier map")
    listed = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", **state}
    (folder / "state.json").write_text(json.dumps(listed))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    return folder


def test_a_saved_data_set_and_a_dict_of_them(tmp_path: Path) -> None:
    single = find_splits(saved(tmp_path / "one"))
    assert read_table(single["train"]).values("text") == ["one 0", "one 1"]
    for split in ("train", "validation"):
        saved(tmp_path / "both" / split)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    found = find_splits(tmp_path / "both")
    assert {split: read_table(files).values("text") for split, files in found.items()} == {
        "train": ["train 0", "train 1"],
        "validation": ["validation 0", "validation 1"],
    }


@pytest.mark.parametrize("nested", [False, True])
def test_a_saved_data_set_that_is_not_whole_is_refused(tmp_path: Path, nested: bool) -> None:
    folder = saved(tmp_path / "train", num_files=3)
    given = tmp_path if nested else folder
    (folder / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00003.arrow of state.json is missing"):
        find_splits(given)
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"state.json: no state of a saved data set"):
        find_splits(given)


def test_rows_that_an_index_chooses_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "old", _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataError, match="flatten_indices"):
        find_splits(folder)
