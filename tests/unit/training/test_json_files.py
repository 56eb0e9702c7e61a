"""JSON by lines and as an array: exact values; and what is refused by row."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.errors import DataError
from training.rows.tables import Table, read_batches, read_table

ROWS: list[dict[str, Any]] = [
    {"text": "größer\nzweite", "label": "01", "more": [1, None, {"a": 1.5}]},
    {"text": "\U0001f600 [1]", "label": 1},
    {"label": True, "text": "", "extra": 12345678901234567890},
    {"text": "2020-01-02", "label": 1.0},
]


def table_of(folder: Path, content: bytes | str, name: str = "a.jsonl") -> Table:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table([path])


def by_rows(table: Table) -> list[dict[str, Any]]:
    columns = {name: table.values(name) for name in table.columns}
    return [{name: values[row] for name, values in columns.items()} for row in range(table.num_rows)]


def lines(rows: list[dict[str, Any]], end: str = "\n", ascii_only: bool = False) -> str:
    return end.join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "A.JSON"])
@pytest.mark.parametrize(
    "content",
    [
        lines(ROWS),
        lines(ROWS, "\r\n", ascii_only=True) + "\r\n",
        "\n" + lines(ROWS, "\n\n  \n") + "\n\n",
        "\ufeff" + lines(ROWS),
        json.dumps(ROWS),
        "\ufeff\n" + json.dumps(ROWS, indent=2, ensure_ascii=False) + "\n\n",
    ],
)
def test_lines_and_arrays_give_the_same_exact_values(tmp_path: Path, name: str, content: str) -> None:
    table = table_of(tmp_path, content, name)
    expected = [{field: row.get(field) for field in ("text", "label", "more", "extra")} for row in ROWS]
    assert by_rows(table) == expected
    assert [type(value) for value in table.values("label")] == [str, int, bool, float]
    batches = list(read_batches([tmp_path / name], 3))
    assert [batch.num_rows for batch in batches] == [3, 1]
    assert batches[1].values("more") == [None]


def test_a_row_is_a_line_or_a_place_in_the_array(tmp_path: Path) -> None:
    table = table_of(tmp_path, '{"a": 1}\n\n{"a": 2}\n')
    assert [table.where(row) for row in range(2)] == ["a.jsonl, row 1", "a.jsonl, row 3"]
    table = table_of(tmp_path, '[\n\n{"a": 1},\n{"a": 2}]', "a.json")
    assert [table.row_number(row) for row in range(2)] == [1, 2]


def test_nan_is_no_value_and_infinity_one(tmp_path: Path) -> None:
    table = table_of(tmp_path, '{"a": NaN, "b": [NaN, 1]}\n{"a": -Infinity, "b": null}\n')
    assert table.values("a") == [None, float("-inf")]
    assert table.values("b") == [[None, 1], None]
    assert table.distinct("a").codes.tolist() == [-1, 0]


def test_half_of_an_emoji_stays(tmp_path: Path) -> None:
    assert table_of(tmp_path, '{"a": "x\\ud83d"}\n').values("a") == ["x\ud83d"]


def test_line_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    rows = [{"a": "one\u2028two\x85three\x0cfour"}]
    assert by_rows(table_of(tmp_path, json.dumps(rows[0], ensure_ascii=False).replace("\x0c", "\\f"))) == rows


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    assert table_of(tmp_path, " [ ] \n", "a.json").num_rows == 0
    assert table_of(tmp_path, "\n\n").num_rows == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ('{"a": 1}\n{"a": \n', "row 2: not JSON"),
        ('{"a": 1}\n{"a": 2, "b": "tru', "row 2: not JSON"),
        ('{"a": 1}\n[1, 2]\n', "row 2: found list, expected an object"),
        ('{"a": 1}\n"text"\n', "row 2: found str"),
        ('{"a": 1} {"a": 2}\n', "row 1: not JSON .text after the object"),
        ('{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', "row 2: not JSON .the key 'a' twice"),
        ('[{"a": 1}, {"b": {"c": 1, "c": 1}}]', "row 2: not JSON .the key 'c' twice"),
        ('[{"a": 1}, 2]', "row 2: found int, expected an object"),
        ('[{"a": 1},\n{"a": 2}', "row 3: not JSON .expected , or ]"),
        ('[{"a": 1},\n{"a": ', "row 2: not JSON"),
        ('[{"a": 1},]', "row 2: not JSON"),
        ('[{"a": 1} {"a": 2}]', "row 2: not JSON .expected , or ]"),
        ('[{"a": 1}] []', "text after the array"),
        ("text,label\na,b\n", "row 1: not JSON"),
        ('{"a": ' + "[" * 100_000, "row 1: not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "row 1: not JSON"),
        ('{\n "text": "x",\n "label": 1\n}', "one object over several lines"),
        (
            '{"text": {"0": "x", "1": "y"}, "label": {"0": 1, "1": 2}}',
            r'of columns \(text, label\).*orient="records"',
        ),
        ('{\n"text": ["x", "y"],\n "label": [1, 2]}', r'of columns.*orient="records"'),
        (b'{"a": "fine"}\n{"a": "caf\xe9"}\n', "row 2: not UTF-8, likely cp1252"),
        (b'[{"a": "fine"},\n{"a": "caf\xe9"}]\n', "row 2: not UTF-8, likely cp1252"),
        (b'{"a": "caf\xe9\n', "row 1: not UTF-8, likely cp1252"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        ('{"a": 1}'.encode("utf-16-be"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        table_of(tmp_path, content)
    assert str(raised.value).startswith("a.jsonl")
    assert "\n" not in str(raised.value)


def test_one_row_with_one_list_is_a_row(tmp_path: Path) -> None:
    row = {"text": "x", "labels": ["a", "b"]}
    assert by_rows(table_of(tmp_path, json.dumps(row))) == [row]


def test_rows_of_lists_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "ok"}\n{"text": ["a"]}\n')
    assert read_table([path]).values("text") == ["ok", ["a"]]
    path.write_text('{"tokens": ["a"], "tags": [0]}\n{"tokens": ["b"], "tags": [1]}\n')
    assert read_table([path]).num_rows == 2
