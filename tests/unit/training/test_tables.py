"""A table: places, different values, rows of the Python API, files together, packed files, workbooks."""

import errno
import gzip
import io
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from training.errors import DataError
from training.rows.tables import FORMATS, Table, format_of, read_batches, read_table


def test_values_of_different_types_are_different() -> None:
    values = [
        1,
        "1",
        1.0,
        True,
        None,
        1,
        [1, "a"],
        [1.0, "a"],
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        float("nan"),
        [1, "a"],
    ]
    found = Table.of([{"a": value} for value in values]).distinct("a")
    assert [(type(value), value) for value in found.values] == [
        (int, 1),
        (str, "1"),
        (float, 1.0),
        (bool, True),
        (list, [1, "a"]),
        (list, [1.0, "a"]),
        (dict, {"a": 1, "b": 2}),
    ]
    assert found.codes.tolist() == [0, 1, 2, 3, -1, 0, 4, 5, 6, 6, -1, 4]
    assert (found.first, found.counts) == ([0, 1, 2, 3, 6, 7, 8], [2, 1, 1, 1, 2, 1, 2])


def test_different_values_over_chunks_of_arrow(tmp_path: Path) -> None:
    paths = [tmp_path / f"train-0000{i}-of-00002.parquet" for i in range(2)]
    for path, values in zip(paths, (["b", None, "a"], ["a", "c", "b"]), strict=True):
        parquet.write_table(pa.table({"a": values}), path, row_group_size=1)
    found = read_table(paths).distinct("a")
    assert (found.values, found.codes.tolist()) == (["b", "a", "c"], [0, -1, 1, 1, 2, 0])
    assert (found.first, found.counts) == ([0, 2, 4], [2, 2, 1])


def test_numpy_and_arrow_values_become_pythons() -> None:
    given: list[Any] = [
        np.float32(0.1),
        np.float16(0.1),
        np.int64(3),
        np.bool_(True),
        np.str_("x"),
        np.array(2),
    ]
    given += [np.array([[0.1, 1]], np.float32), (1, 2), {2, 1}, np.float64("nan"), {"a": np.array(["x"])}]
    values = Table.of([{"a": value} for value in given]).values("a")
    expected = [0.1, 0.1, 3, True, "x", 2, [[0.1, 1.0]], [1, 2], [1, 2], None, {"a": ["x"]}]
    assert [(type(value), value) for value in values] == [(type(value), value) for value in expected]


def test_rows_of_the_python_api() -> None:
    table = Table.of(iter([{"a": 1}, {"b": 2}]), source="my rows")
    assert (table.values("a"), table.values("b"), table.values("c")) == ([1, None], [None, 2], [None, None])
    assert table.where(1) == "my rows, row 2"
    assert Table.of([]).num_rows == 0
    for row in ("text", {1: "a"}):
        with pytest.raises(DataError, match="my rows, row 1: found"):
            Table.of([row], source="my rows")  # type: ignore[list-item]


def shards(folder: Path) -> list[Path]:
    contents = ["text,label\na,1\n\nb,2\n", "text,label\n", 'text,label\n"c\nd",3\ne,4\n']
    paths = [folder / f"train-0000{number}-of-00003.csv" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return paths


def test_several_files_are_one_table(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    table = read_table(paths)
    assert table.values("text") == ["a", "b", "c\nd", "e"]
    assert [table.row_number(row) for row in range(4)] == [2, 3, 5, 6]
    places = [f"train-0000{file}-of-00003.csv, row {row}" for file, row in ((0, 2), (0, 3), (2, 2), (2, 3))]
    assert [table.where(row) for row in range(4)] == places
    assert table.source.endswith("/train-00000-of-00003.csv to train-00002-of-00003.csv (3 files)")
    taken = table.take([3, 0])
    assert (taken.values("label"), [taken.where(row) for row in range(2)]) == (
        ["4", "1"],
        [places[3], places[0]],
    )
    batches = list(read_batches(paths, 1))
    assert [batch.where(0) for batch in batches] == places
    assert [batch.values("text") for batch in batches] == [["a"], ["b"], ["c\nd"], ["e"]]


def test_files_of_one_split_have_the_same_columns(tmp_path: Path) -> None:
    paths = shards(tmp_path)
    paths[2].write_text("text,lable\na,b\n")
    with pytest.raises(DataError, match="train-00002-of-00003.csv: of the columns label, lable, train-00000"):
        read_table(paths)


def test_a_column_of_two_types_keeps_both(tmp_path: Path) -> None:
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for path, values in zip(paths, ([1, None], ["1"], [1.5]), strict=True):
        parquet.write_table(pa.table({"a": values}), path)
    assert read_table(paths).values("a") == [1, None, "1", 1.5]


def test_other_class_names_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path, name in zip(paths, ("yes", "no"), strict=True):
        info = f'{{"info": {{"features": {{"a": {{"_type": "ClassLabel", "names": ["{name}"]}}}}}}}}'
        parquet.write_table(pa.table({"a": [0]}).replace_schema_metadata({"huggingface": info}), path)
    with pytest.raises(
        DataError, match="1.parquet: its metadata has other class names than that of 0.parquet"
    ):
        read_table(paths)


def workbook(rows: list[list[Any]], sheets: int = 1) -> bytes:
    book = openpyxl.Workbook()
    for _ in range(sheets - 1):
        book.create_sheet()
    for row in rows:
        book.worksheets[0].append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


ROWS = [["text", "label"], ["a, b", "1"], ["größer", "01"], ["", "x"]]
CSV = 'text,label\n"a, b",1\ngrößer,01\n,x\n'.encode()
JSON = (
    '{"text": "a, b", "label": "1"}\n{"text": "größer", "label": "01"}\n{"text": "", "label": "x"}\n'.encode()
)


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"text": ["a, b", "größer", ""], "label": ["1", "01", "x"]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".GZ"])
@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".csv", CSV),
        (
            ".tsv",
            CSV.replace(b'"a, b",1', b"a, b\t1")
            .replace(b"r,0", b"r\t0")
            .replace(b",x", b"\tx")
            .replace(b"t,l", b"t\tl"),
        ),
        (".jsonl", JSON),
        (".parquet", parquet_bytes()),
    ],
)
def test_every_format_may_be_packed(tmp_path: Path, ending: str, content: bytes, packed: str) -> None:
    zstd = pa.compress(content, codec="zstd", asbytes=True)
    half = len(content) // 2
    members = gzip.compress(content[:half]) + gzip.compress(content[half:])
    path = tmp_path / f"a{ending}{packed}"
    path.write_bytes({"": content, ".gz": gzip.compress(content), ".zst": zstd, ".GZ": members}[packed])
    table = read_table([path])
    assert list(zip(table.values("text"), table.values("label"), strict=True)) == [
        ("a, b", "1"),
        ("größer", "01"),
        ("", "x"),
    ]
    assert len(list(read_batches([path], 1))) == 3


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".xlsx", ".arrow"])
@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_packed_file_that_is_cut_off_or_none_is_refused(tmp_path: Path, ending: str, packed: str) -> None:
    content = "".join(f"{i * 7919},{i}\n" for i in range(100_000)).encode()
    whole = gzip.compress(content) if packed == ".gz" else pa.compress(content, codec="zstd", asbytes=True)
    path = tmp_path / f"a{ending}{packed}"
    for cut in (whole[:-3], whole[: len(whole) // 2], b"text,label\na,b\n", whole[:12]):
        path.write_bytes(cut)
        with pytest.raises(
            DataError, match=rf"a{ending}{packed}: not .*or cut off|a{ending}{packed}, row"
        ) as raised:
            read_table([path])
        assert "\n" not in str(raised.value)
    path.write_bytes(gzip.compress(b"") if packed == ".gz" else b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_table([path])


def test_a_workbook_keeps_the_types_of_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(
        workbook(
            [["text", " label ", None, "n"], ["a", "01", "x", 1], [], ["b", 1.5, None, True], ["", "#N/A"]]
        )
    )
    table = read_table([path])
    assert {name: table.values(name) for name in table.columns} == {
        "text": ["a", "b", None],
        "label": ["01", 1.5, None],
        "n": [1, True, None],
    }
    assert [table.where(row) for row in range(3)] == ["a.xlsx, row 2", "a.xlsx, row 4", "a.xlsx, row 5"]
    assert table.notes == ("a.xlsx: 1 column(s) without a name ignored",)
    assert [batch.values("text") for batch in read_batches([path], 2)] == [["a", "b"], [None]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (workbook([]), "the first sheet is empty"),
        (workbook([["a", "a"], [1, 2]]), "several columns are called a"),
        (workbook([["a"], [1, 2]])[:-30], "not an Excel workbook"),
        (b"PK\x03\x04 no workbook", "not an Excel workbook"),
        (b"text,label\na,b\n", "not an Excel workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old or encrypted Excel workbook"),
    ],
)
def test_what_is_no_table_in_a_workbook_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"a.xlsx.*{message}"):
        read_table([path])


def test_other_sheets_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(workbook(ROWS, sheets=3))
    assert read_table([path]).notes == ("a.xlsx: of 3 sheets only Sheet is read",)


@pytest.mark.parametrize("name", ["a.xls", "a.zip", "a.log", "a", "a.csv.bz2", "csv"])
def test_an_ending_that_is_not_read_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text,label\na,b\n")
    with pytest.raises(
        DataError, match=r"the ending is none of .csv, .tsv, .*.xlsx, .*.txt, perhaps with .gz or .zst"
    ):
        read_table([tmp_path / name])
    assert format_of(Path(name)) is None
    assert all(format_of(Path(f"a{ending.upper()}")) == ending for ending in FORMATS)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a.csv: cannot be read .No such file"):
        read_table([tmp_path / "a.csv"])
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataError, match="b.csv: cannot be read .Is a directory"):
        read_table([tmp_path / "b.csv"])


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n")
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        monkeypatch.setattr(Path, "open", Mock(side_effect=error))
        monkeypatch.setattr("builtins.open", Mock(side_effect=error))
    with pytest.raises(DataError, match="a.csv: cannot be read .Permission denied"):
        read_table([path])
