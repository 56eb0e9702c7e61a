"""Parquet and Arrow: every type gives the same Python values; class names of the hub's metadata."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from training.errors import DataError
from training.rows.tables import Table, read_batches, read_table


def write(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=4)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, compression="zstd")
    else:
        kind = ipc.new_file if "file" in path.name else ipc.new_stream
        with kind(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    return path


FILES = ["a.parquet", "file.arrow", "stream.arrow", "a.feather"]
COLUMNS: list[tuple[pa.Array, list[Any]]] = [
    (pa.array(["a", None, "b", "a"]), ["a", None, "b", "a"]),
    (pa.array(["a", None, "b", "a"], pa.large_string()), ["a", None, "b", "a"]),
    (pa.array(["a", None, "b", "a"]).dictionary_encode(), ["a", None, "b", "a"]),
    (pa.array([3, None, 1, 3], pa.int8()), [3, None, 1, 3]),
    (pa.array([2**63, 0, None, 1], pa.uint64()), [2**63, 0, None, 1]),
    (pa.array([0.1, None, float("nan"), 3.3], pa.float32()), [0.1, None, None, 3.3]),
    (pa.array([np.float16(0.1), None, np.float16(2)], pa.float16()), [0.1, None, 2.0]),
    (pa.array([0.1, float("nan"), 1e300]), [0.1, None, 1e300]),
    (pa.array([True, None, False]), [True, None, False]),
    (pa.array([Decimal("1.50"), None]), [Decimal("1.50"), None]),
    (pa.array([datetime.date(2020, 1, 2), None]), [datetime.date(2020, 1, 2), None]),
    (pa.array([1577934245000001], pa.timestamp("us")), [datetime.datetime(2020, 1, 2, 3, 4, 5, 1)]),
    (pa.array([1577934245000000001, None], pa.timestamp("ns")), ["2020-01-02 03:04:05.000000001", None]),
    (pa.array([[1, None], None, []], pa.list_(pa.int16())), [[1, None], None, []]),
    (pa.array([[0.1, float("nan")], None], pa.list_(pa.float32())), [[0.1, None], None]),
    (pa.array([[0.1, 1.0], [0.0, 0.7]], pa.list_(pa.float32(), 2)), [[0.1, 1.0], [0.0, 0.7]]),
    (pa.array([["a", None]], pa.large_list(pa.string())), [["a", None]]),
    (pa.array([{"a": 1, "b": [None]}]), [{"a": 1, "b": [None]}]),
    (pa.nulls(3), [None, None, None]),
    (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None], pa.int8())), [1, None]),
    (pa.array(["a", None], pa.string_view()), ["a", None]),
    (pa.array([1, None], pa.decimal128(5, 0)), [Decimal(1), None]),
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("array", "expected"), COLUMNS, ids=lambda value: str(getattr(value, "type", "")))
def test_values_are_pythons_own(tmp_path: Path, name: str, array: pa.Array, expected: list[Any]) -> None:
    array, expected = pa.concat_arrays([array, array, array]), expected * 3
    path = write(pa.table({"a": array, "row": range(len(array))}), tmp_path / name)
    table = read_table([path])
    values = table.values("a")
    assert [(type(value), value) for value in values] == [(type(value), value) for value in expected]
    assert [value for batch in read_batches([path], 2) for value in batch.values("a")] == expected
    distinct = table.distinct("a")
    assert [None if code < 0 else distinct.values[code] for code in distinct.codes] == expected
    assert table.where(len(array) - 1) == f"{name}, row {len(array)}"


CLASSES = {
    "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
    "tags": {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "Sequence"},
    "old": [{"names": ["c", "d"], "_type": "ClassLabel"}],
    "text": {"dtype": "string", "_type": "Value"},
    "gone": {"names": ["e"], "_type": "ClassLabel"},
}
NAMES = {"label": ("no", "yes"), "tags": ("a", "b"), "old": ("c", "d")}
TABLE = pa.table({"text": ["x"], "label": [1], "tags": [[0, 1]], "old": [[1]]})


def with_classes(metadata: bytes) -> pa.Table:
    return TABLE.replace_schema_metadata({b"huggingface": metadata})


@pytest.mark.parametrize("name", FILES)
def test_class_names_of_the_hub(tmp_path: Path, name: str) -> None:
    stored = json.dumps({"info": {"features": CLASSES}}).encode()
    path = write(with_classes(stored), tmp_path / name)
    assert read_table([path]).class_names == NAMES
    assert [batch.class_names for batch in read_batches([path])] == [NAMES]


def test_class_names_of_a_saved_folder(tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "data-00000-of-00001.arrow")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": CLASSES}))
    assert read_table([path]).class_names == NAMES


@pytest.mark.parametrize(
    "metadata",
    [
        b"{",
        b"[]",
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}',
    ],
)
def test_metadata_that_cannot_be_read_is_told(tmp_path: Path, metadata: bytes) -> None:
    table = read_table([write(with_classes(metadata), tmp_path / "a.parquet")])
    assert table.class_names == {}
    assert "the class names in its metadata cannot be read" in table.notes[0]


def test_a_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"fine", b"fine", b"caf\xe9"], pa.binary()).view(pa.string())
    for name in FILES:
        path = write(pa.table({"text": pa.concat_arrays([texts[:2], texts[:2], texts])}), tmp_path / name)
        with pytest.raises(DataError, match=f"{name}, row 7: .*UTF8"):
            read_table([path])


def read(path: Path, content: bytes) -> Table:
    path.write_bytes(content)
    return read_table([path])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"PAR1 not really", "a.parquet: not Parquet"),
        ("a.parquet", b"text,label\n", "a.parquet: not Parquet"),
        ("a.arrow", b"ARROW1 not really", "a.arrow: not Arrow"),
        ("a.arrow", b"text,label\n", "a.arrow: not Arrow"),
        ("a.arrow", b"PAR1\x15", "a.arrow: Parquet: name it .parquet"),
        ("a.parquet", b"", "a.parquet: the file is empty"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ],
)
def test_other_bytes_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path / name, content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cut", [9, 100, 400])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 2**60, 300)
    content = write(pa.table({"a": numbers}), tmp_path / name).read_bytes()
    with pytest.raises(DataError, match=f"{name}: not (Parquet|Arrow), or cut off"):
        read(tmp_path / name, content[:-cut])


def test_a_stream_cut_between_two_batches_is_refused(tmp_path: Path) -> None:
    whole = write(pa.table({"a": [1, 2, 3]}), tmp_path / "whole.arrow").read_bytes()
    with pytest.raises(DataError, match=r"a.arrow: not Arrow, or cut off \(no end mark\)"):
        read(tmp_path / "a.arrow", whole[:-8])


def test_a_name_twice_and_no_name(tmp_path: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    with pytest.raises(DataError, match="several columns are called text"):
        read_table([write(pa.Table.from_arrays(columns, ["text", "label", "text"]), tmp_path / "a.arrow")])
    table = read_table([write(pa.Table.from_arrays(columns, ["", "text", "label"]), tmp_path / "a.arrow")])
    assert (list(table.columns), table.values("text")) == (["text", "label"], ["b"])
    assert table.notes == ("a.arrow: 1 column(s) without a name ignored",)
