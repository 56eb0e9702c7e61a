"""The four formats, and files that are none of them."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from training.errors import DataError
from training.rows.readers import read_rows

ROWS: list[dict[str, Any]] = [
    {"text": 'a, "quoted" text', "label": "x"},
    {"text": "größer\nzweite", "label": "y"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.name.endswith(".parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif ".csv" in path.name:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["text", "label"])
            table.writeheader()
            table.writerows(rows)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert [row for _, row in read_rows(write(tmp_path / name, ROWS))] == ROWS


def test_row_numbers_are_what_an_editor_shows(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [number for number, _ in read_rows(lines)] == [1, 3]
    assert [number for number, _ in read_rows(write(tmp_path / "a.csv", ROWS))] == [2, 3]
    assert [number for number, _ in read_rows(write(tmp_path / "a.parquet", ROWS))] == [1, 2]


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefftext,label\nhello,1\n".encode())
    assert [row for _, row in read_rows(path)] == [{"text": "hello", "label": "1"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"x", "a.txt: the ending is none of"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl, row 2: not JSON"),
        ("a.jsonl", b"[1, 2]\n", "a.jsonl, row 1: found list, expected an object"),
        ("a.jsonl", b'{"a": "\xff"}\n', "not UTF-8"),
        ("a.jsonl.gz", b"not gzip", "a.jsonl.gz, after row 0: cannot be read"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9000)[:-30], "cannot be read"),
        ("a.csv", b"a,b\n1,2,3\n", "a.csv, row 2: found 3 cells, the header has 2"),
        ("a.csv", b"a,a\n1,2\n", "every column needs a name of its own"),
        ("a.csv", b'a,b\n"x"y,2\n', "row 2: not CSV"),
        ("a.parquet", b"PAR1 not really", "a.parquet, after row 0: not Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_rows(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(tmp_path / "a.jsonl"))
