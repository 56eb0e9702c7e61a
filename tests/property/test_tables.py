"""Any table, written in any format and read back whole or in batches, is the same."""

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv
from pyarrow import ipc, parquet

from training.rows.tables import Table, read_batches, read_table

SLOW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])

letters = st.characters(codec="utf-8")
texts = st.text(st.sampled_from('",;|\t\r\n a1\ufeff\x00\u2028é😀') | letters, max_size=12)
rows_of_texts = st.lists(st.tuples(texts, texts), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
SEPARATORS = [",", ";", "\t", "|"]


def read_back(content: bytes, name: str) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        table = read_table([path])
        batches = list(read_batches([path], 3))
    columns = {
        field: [value for batch in batches for value in batch.values(field)] for field in table.columns
    }
    assert columns == {field: table.values(field) for field in table.columns}
    assert [number for batch in batches for number in batch.numbers] == list(table.numbers)
    assert all(batch.num_rows <= 3 for batch in batches)
    return table


def pairs(table: Table) -> list[tuple[Any, ...]]:
    return list(zip(table.values("text"), table.values("label"), strict=True))


@SLOW
@given(
    rows_of_texts,
    st.sampled_from(SEPARATORS),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.booleans(),
    st.sampled_from(["", "\ufeff", "\n\n", "sep"]),
)
@example([("two\nlines", "a")], "\t", "\n", True, "")
@example([('say "no"\r', "a"), ("", "")], ";", "\r", True, "\ufeff")
def test_csv(rows: list[tuple[str, str]], separator: str, end: str, everything: bool, before: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end)
    if everything or end != "\r\n":  # minimal quoting quotes no line ends but the writer's own
        writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    before = f"sep={separator}\n" if before == "sep" else before
    table = read_back((before + file.getvalue()).encode(), "a.csv")
    if not any("quotes are part" in note for note in table.notes):
        assert pairs(table) == rows
    else:
        assert separator == "\t"
        assert any("\t" in text + label for text, label in rows), (
            "only tabs in cells can make lines look whole"
        )


@SLOW
@given(rows_of_texts)
def test_the_same_by_every_writer(rows: list[tuple[str, str]]) -> None:
    table = pa.table(
        {"text": [t for t, _ in rows], "label": [v for _, v in rows]},
        pa.schema([("text", pa.string()), ("label", pa.string())]),
    )
    sinks = {name: pa.BufferOutputStream() for name in ("a.csv", "a.parquet", "a.arrow", "b.arrow")}
    arrow_csv.write_csv(table, sinks["a.csv"])
    parquet.write_table(table, sinks["a.parquet"], row_group_size=2)
    with ipc.new_stream(sinks["a.arrow"], table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    with ipc.new_file(sinks["b.arrow"], table.schema) as writer:
        writer.write_table(table)
    for name, sink in sinks.items():
        assert pairs(read_back(bytes(sink.getvalue()), name)) == rows, name
    objects = [{"text": text, "label": label} for text, label in rows]
    if objects:
        assert pairs(read_back("\n".join(map(json.dumps, objects)).encode(), "a.jsonl")) == rows
        assert pairs(read_back(json.dumps(objects, ensure_ascii=False).encode(), "a.json")) == rows


def typed(value: Any) -> Any:
    """Unequal for values of different types."""
    if isinstance(value, list):
        return [typed(one) for one in value]
    if isinstance(value, dict):
        return {name: typed(one) for name, one in value.items()}
    return type(value), repr(value)


@SLOW
@given(st.lists(values, min_size=1, max_size=9))
def test_labels_of_json_and_of_python_are_exact(labels: list[Any]) -> None:
    rows = [{"text": "x", "label": label} for label in labels]
    lines = "\n".join(json.dumps(row) for row in rows).encode("utf-8")
    tables = [read_back(lines, "a.jsonl"), read_back(json.dumps(rows).encode(), "a.json"), Table.of(rows)]
    for table in tables:
        assert typed(table.values("label")) == typed(labels)
        found = table.distinct("label")
        assert [None if code < 0 else found.values[code] for code in found.codes] == labels
        assert [found.codes[row] for row in found.first] == list(range(len(found.values)))
        assert sum(found.counts) == sum(label is not None for label in labels)


@SLOW
@given(
    st.lists(st.none() | st.integers(-5, 5), max_size=20),
    st.sampled_from(
        [pa.int8(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string()]
    ),
    st.booleans(),
)
def test_different_values_of_every_type(numbers: list[int | None], kind: Any, coded: bool) -> None:
    spelled = [n if n is None else str(n) if "string" in str(kind) else n for n in numbers]
    array = pa.array(spelled, pa.string()).cast(kind) if "string" in str(kind) else pa.array(spelled, kind)
    sink = pa.BufferOutputStream()
    table = pa.table({"label": array.dictionary_encode() if coded else array})
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=len(array) or None)
    read = read_back(bytes(sink.getvalue()), "a.arrow")
    found = read.distinct("label")
    assert [None if code < 0 else found.values[code] for code in found.codes] == array.to_pylist()
    assert found.first == sorted(found.first)
    assert len(found.values) == len({n for n in numbers if n is not None})
