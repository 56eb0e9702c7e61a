"""The parts that a file of rows goes through, each for itself: in parts, in order, with few at a time."""

from __future__ import annotations

import io
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from training.rows.tables import read_table
from trunkline.answers import Version
from trunkline.bulk.asking import in_order
from trunkline.bulk.fields import Form, Said, forms_of, reading_for
from trunkline.bulk.output import Csv, JsonLines, Parquet
from trunkline.bulk.part import Part
from trunkline.bulk.source import open_source
from trunkline.bulk.types import Kinds
from trunkline.cli.counting import Speed, count_rows


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_only_a_few_parts_are_read_ahead(in_flight: int) -> None:
    """Of a file of any length: what is held is what is under way."""
    read = 0

    def parts() -> Iterator[int]:
        nonlocal read
        for number in range(50):
            read += 1
            yield number

    for place, answer in enumerate(in_order(lambda number: number * 2, parts(), in_flight)):
        assert answer == place * 2
        assert read <= place + in_flight


def test_what_goes_wrong_comes_in_its_turn() -> None:
    def do(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    found = []
    with pytest.raises(ValueError, match="three"):
        for answer in in_order(do, range(9), 4):
            found.append(answer)
    assert found == [0, 1, 2]


def test_nobody_who_leaves_waits_for_a_server() -> None:
    answers = in_order(lambda _: threading.current_thread().daemon, range(3), 2)
    assert list(answers) == [True] * 3


@pytest.mark.parametrize("seed", range(5))
def test_the_rows_behind_those_that_are_done_are_the_rest(tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "r.csv"
    num_rows = rng.randrange(1, 200)
    path.write_text("text\n" + "".join(f"{number}\n" for number in range(num_rows)))
    source = open_source(path)
    assert source.num_rows == num_rows
    skipped, size = rng.randrange(num_rows + 3), rng.randrange(1, 60)
    tables = list(source.tables(size, skipped))
    assert all(0 < table.num_rows <= size for table in tables)
    texts = [text for table in tables for text in table.values("text")]
    assert texts == read_table([path]).values("text")[skipped:]
    if tables:
        assert tables[0].where(0) == f"r.csv, row {skipped + 2}"


def test_columns_are_those_of_all_rows(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"text": "a"}\n' * 9000 + '{"text": "b", "late": 1}\n')
    source = open_source(path)
    assert dict(source.columns) == {"text": pa.string(), "late": pa.int64()}
    assert source.num_rows == 9001


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([[1], [None], [2]], pa.int64()),
        ([[None], [1.5], [2]], pa.float64()),
        ([[2**60], [1.5]], None),
        ([[1], ["a"]], None),
        ([[1, "a"]], None),
        ([[True], [1]], None),
        ([[{"a": 1}], [{"b": 1}]], None),
        ([[["a"]], [["b", "c"]]], pa.list_(pa.string())),
        ([[2**70]], None),
        ([["\ud83d"]], None),
    ],
)
def test_types_are_those_in_which_nothing_is_lost(parts: list[list[Any]], kind: Any) -> None:
    kinds = Kinds()
    for values in parts:
        kinds.add({"x": values})
    assert kinds.found == {"x": kind}


def test_a_nested_dictionary_cannot_stand_alone() -> None:
    kinds = Kinds()
    kinds.add({"x": pa.chunked_array([pa.array([["a"]], pa.list_(pa.dictionary(pa.int8(), pa.string())))])})
    assert kinds.found == {"x": None}


@pytest.mark.parametrize("form", [Csv, JsonLines, Parquet])
def test_bytes_of_parts_are_those_of_the_whole(form: type[Csv | JsonLines | Parquet]) -> None:
    """What may be cut and gone on with has nothing in it that depends on what came before."""
    made = form({"a": pa.string(), "b": pa.int64(), "c": None})
    first, rest = {"a": ["x\r\n,", None], "b": [1, 2], "c": [1, "é"]}, {"a": ["y"], "b": [None]}
    assert made.rows(first) + made.rows(rest) == b"".join(
        form(made.columns).rows(one) for one in (first, rest)
    )
    if form is Csv:
        assert made.head() + made.rows(first) == 'a,b,c\n"x\r\n,",1,1\n,2,é\n'.encode()


def test_no_row_is_kept_twice_or_lost_whenever_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between any two steps: what the record says is what the bytes hold."""
    out, form = tmp_path / "o.csv", Csv({"n": pa.int64()})
    command: dict[str, Any] = {"tasks": []}
    rng, written = random.Random(3), 0
    while written < 60:
        part = Part(out, form, command, overwrite=False)
        written = part.done.rows
        for _ in range(rng.randrange(4)):
            part.add({"n": list(range(part.done.rows, part.done.rows + 3))}, failed=1, empty=0)
            if rng.random() < 0.5:
                part.keep()
        monkeypatch.setattr(Part, "keep", lambda _: None)  # killed: nothing is kept any more
        part.add({"n": [-1]}, failed=0, empty=0)
        part.close()
        monkeypatch.undo()
    part = Part(out, form, command, overwrite=False)
    num_rows = part.done.rows
    assert part.done.failed == num_rows / 3
    part.finish()
    part.close()
    assert out.read_text().split() == ["n", *map(str, range(num_rows))]


def test_two_runs_do_not_write_one_part(tmp_path: Path) -> None:
    out, form = tmp_path / "o.csv", Csv({"n": pa.int64()})
    part = Part(out, form, {"tasks": []}, overwrite=False)
    with pytest.raises(Exception, match="being written by another run"):
        Part(out, form, {"tasks": []}, overwrite=True)
    part.close()
    Part(out, form, {"tasks": []}, overwrite=False).close()


def _version(**told: Any) -> Version:
    return Version(1, "a", 1, "", **told)


@pytest.mark.parametrize(
    ("version", "forms"),
    [
        (_version(), [Form(("text",))]),
        (_version(fields=("body",)), [Form(("body",)), Form(("text",))]),
        (_version(fields=("a", "b")), [Form(("a", "b")), Form(("text", "text_pair"))]),
        (_version(kind="multiple_choice"), [Form(("text",), ("choices",))]),
        (_version(kind="text_to_text", example="{source}"), [Form(("source",)), Form(("text",))]),
        (_version(kind="text_to_text", example="rte a: {a}"), [Form(("source",))]),
        (
            _version(kind="similarity", fields=("a", "b")),
            [Form(("a", "b")), Form(("text", "text_pair")), Form(("a",)), Form(("b",)), Form(("text",))],
        ),
    ],
)
def test_the_forms_of_a_task(version: Version, forms: list[Form]) -> None:
    assert forms_of(version) == forms


def test_a_column_of_numbers_is_no_text() -> None:
    with pytest.raises(Exception, match="'text' that task t reads holds int64, not texts"):
        reading_for("t", _version(), {"text": pa.int64()}, Said(), "r.parquet")


def test_a_format_that_this_client_does_not_know_is_refused() -> None:
    made = {"name": "of tomorrow", "fields": ["a"], "prefix": "", "targets": "", "official_code": False}
    version = _version(kind="text_to_text", reads={"formatter": made})
    with pytest.raises(Exception, match="does not know"):
        reading_for("t", version, {"a": pa.string()}, Said(), "r.parquet")


def test_progress_in_a_log() -> None:
    now = [0.0]
    speed = Speed(1000, 200, clock=lambda: now[0])
    now[0] = 2.0
    assert (speed.shown(300), speed.left(300)) == ("50 rows/s", "14 s left")
    assert (speed.shown(200), speed.left(200)) == ("", "")
    out = io.StringIO()
    with count_rows(10, 0, out) as told:
        told(5, 1)
    assert out.getvalue() == ""


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    with count_rows(1000, 200, out) as told:
        told(400, 3)
        told(1000, 3)
    assert "1000/1000" in out.getvalue()
    assert "3 failed" in out.getvalue()


def test_inputs_in_lines_are_rows_of_their_parts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = ["one", ["a", "b"], {"text": "t", "label": 1}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = open_source(path)
    assert source.are_inputs
    (table,) = source.tables(9)
    assert table.values("text") == ["one", "a", "t"]
    assert table.values("text_pair") == [None, "b", None]
