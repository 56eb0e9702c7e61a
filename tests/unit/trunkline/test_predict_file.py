"""`predict --file`: rows by a task's own fields, answers beside them, gone on with after an interruption."""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import trunkline.bulk.asking
import trunkline.bulk.part
from tests.unit.trunkline.conftest import Run
from tests.unit.trunkline.fake_server import RowServer, ok, problem, task_of

Serve = Callable[[RowServer], RowServer]

ROWS: list[dict[str, Any]] = [
    {"id": "a", "body": "buy spam", "label": "ham"},
    {"id": "b", "body": 'dear all,\n"quoted"', "label": "spam"},
    {"id": "c", "body": "", "label": ""},
]
OWN: dict[str, Any] = {"fields": ["body"]}


@pytest.fixture
def mail(serve: Serve) -> RowServer:
    """A task that reads the field `body`."""
    return serve(RowServer(tasks={"mail": task_of(**OWN)}))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the ending."""
    names = [*rows[0]]
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, names, delimiter=";")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for cells in (names, *([row[name] for name in names] for row in rows)):
            book.active.append(cells)
        book.save(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        table = pa.Table.from_pylist(rows)
        if path.suffix == ".parquet":
            parquet.write_table(table, path)
        else:
            with ipc.new_file(path, table.schema) as file:
                file.write_table(table)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """What was written, as Python has it."""
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("name", ["r.csv", "r.jsonl.gz", "r.json", "r.parquet", "r.arrow"])
def test_every_row_has_its_answer_beside_it(
    run: Run, mail: RowServer, tmp_path: Path, name: str, out: str
) -> None:
    path = write(tmp_path / name, ROWS)
    done = run("predict", "--task", "mail", "--file", str(path), "--out", str(tmp_path / out))
    assert done.exit_code == 0, done.output
    assert mail.asked == [row["body"] for row in ROWS]
    none = "" if out == "out.csv" else None
    number = str if out == "out.csv" else (lambda value: value)
    assert read(tmp_path / out) == [
        {
            **row,
            "predicted_label": label,
            "predicted_score": number(0.75),
            "predicted_version": number(3),
            "predicted_error": none,
        }
        for row, label in zip(ROWS, ("spam", "ham", "ham"), strict=True)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, out])
    assert "rows with an empty text: 1" in done.stderr


def test_a_workbook_is_read_too(run: Run, mail: RowServer, tmp_path: Path) -> None:
    path = write(tmp_path / "r.xlsx", ROWS[:2])
    assert run("predict", "--task", "mail", "--file", str(path), "--json").exit_code == 0
    assert mail.asked == [row["body"] for row in ROWS[:2]]


def test_a_table_is_never_sent_line_by_line(run: Run, serve: Serve, tmp_path: Path) -> None:
    """The field's case: the columns are those that training read, and the header is no text."""
    server = serve(RowServer(tasks={"t": task_of("t")}))
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nwhere is my parcel,orders\nthe lamp is dark,support\n")
    assert run("predict", "--task", "t", "--file", str(path)).exit_code == 0
    assert server.asked == ["where is my parcel", "the lamp is dark"]


@pytest.mark.parametrize(
    ("content", "args", "says"),
    [
        (
            "a,b\n1,2\n",
            [],
            ["task mail reads the field 'body'", "no 'body' among", "'a', 'b'", "--text-fields"],
        ),
        ("a,b\n1,2\n", ["--text-fields", "c"], ["no column 'c' (--text-fields) among 'a', 'b'"]),
        ("a,b\n1,2\n", ["--text-fields", "a,b"], ["task mail reads 1: 'body'"]),
        ("Where is my parcel?\nhere\n", [], ["write a header above it, or call the file .txt"]),
    ],
)
def test_fields_that_are_not_there_are_named(
    run: Run, mail: RowServer, tmp_path: Path, content: str, args: list[str], says: list[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    done = run("predict", "--task", "mail", "--file", str(path), *args)
    assert done.exit_code == 1
    assert mail.requests == []
    for words in ("rows.csv" if not args or "c" in args else "--text-fields", *says):
        assert words in done.stderr


@pytest.mark.parametrize("name", ["rows.dat", "rows", "rows.csv.bz2"])
def test_an_unknown_ending_is_refused_by_name(run: Run, mail: RowServer, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("one\n")
    done = run("predict", "--task", "mail", "--file", str(path))
    assert done.exit_code == 1
    assert f"{name}: the ending is none of .txt, " in done.stderr
    assert mail.requests == []


@pytest.mark.parametrize("out", ["o.xlsx", "o", "o.csv.gz", "no/o.csv", "r.csv"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_asked(
    run: Run, mail: RowServer, tmp_path: Path, out: str
) -> None:
    path = write(tmp_path / "r.csv", ROWS)
    before = path.read_bytes()
    done = run("predict", "--task", "mail", "-f", str(path), "-o", str(tmp_path / out), "--overwrite")
    assert done.exit_code == 1
    assert Path(out).name in done.stderr
    assert mail.requests == []
    assert path.read_bytes() == before


def test_columns_may_be_called_otherwise(run: Run, serve: Serve, tmp_path: Path) -> None:
    server = serve(RowServer(tasks={"same": task_of("same", fields=["sentence1", "sentence2"])}))
    path = write(tmp_path / "r.parquet", [{"q": "one", "r": "two", "text": "no"}])
    done = run("predict", "--task", "same", "--file", str(path), "--text-fields", "r,q")
    assert done.exit_code == 0, done.output
    assert server.asked == [{"text": "two", "text_pair": "one"}]


def test_rows_with_the_names_of_the_interface_are_taken_and_told(
    run: Run, serve: Serve, tmp_path: Path
) -> None:
    server = serve(RowServer(tasks={"same": task_of("same", fields=["sentence1", "sentence2"])}))
    path = write(tmp_path / "r.parquet", [{"text": "one", "text_pair": "two", "sentence1": "no"}])
    done = run("predict", "--task", "same", "--file", str(path))
    assert server.asked == [{"text": "one", "text_pair": "two"}]
    assert (
        "note: same: the file has no 'sentence1', 'sentence2'; 'text', 'text_pair' read instead"
        in done.stderr
    )


def test_own_fields_come_before_the_names_of_the_interface(run: Run, mail: RowServer, tmp_path: Path) -> None:
    path = write(tmp_path / "r.parquet", [{"text": "another", "body": "mine"}])
    assert run("predict", "--task", "mail", "--file", str(path)).exit_code == 0
    assert mail.asked == ["mine"]


def test_a_task_that_chooses_reads_the_choices_of_its_training(
    run: Run, serve: Serve, tmp_path: Path
) -> None:
    """The sentence that a question stands for is written as in training, whatever its column is called."""
    reads = {"text_fields": ["premise", "question"], "choice_fields": ["choice1", "choice2"]}
    task = task_of("cause", kind="multiple_choice", fields=["text", "choices"], reads=reads)
    server = serve(RowServer(tasks={"cause": task}))
    row = {"premise": "it rained.", "question": "effect", "choice1": "wet", "choice2": "dry"}
    wanted = {"text": "it rained. What happened as a result?", "choices": ["wet", "dry"]}
    path = write(tmp_path / "r.csv", [row])
    assert run("predict", "--task", "cause", "--file", str(path)).exit_code == 0
    renamed = write(tmp_path / "s.csv", [dict(zip("pqab", row.values(), strict=True))])
    fields = ["--text-fields", "p,q", "--choice-fields", "a,b"]
    assert run("predict", "--task", "cause", "--file", str(renamed), *fields).exit_code == 0
    assert server.asked == [wanted, wanted]
    fixed = ["--text-fields", "p,q", "--choice", "yes", "--choice", "no"]
    assert run("predict", "--task", "cause", "--file", str(renamed), *fixed).exit_code == 0
    assert server.asked[-1] == {**wanted, "choices": ["yes", "no"]}


def test_a_source_is_written_as_in_training(run: Run, serve: Serve, tmp_path: Path) -> None:
    made = {
        "name": "fields",
        "fields": ["a", "b"],
        "prefix": "rte",
        "targets": "digits",
        "official_code": False,
    }
    known: dict[str, Any] = {"kind": "text_to_text", "fields": ["source"], "example": "rte a: {a} b: {b}"}
    task = task_of("rte", **known, reads={"formatter": made})
    server = serve(RowServer(tasks={"rte": task, "old": task_of("old", **known)}))
    path = write(tmp_path / "r.csv", [{"b": "two", "a": "one", "source": "a magazine"}])
    done = run("predict", "--task", "rte", "--file", str(path))
    assert "rte: sources are written as 'rte a: {a} b: {b}'" in done.stderr
    assert run("predict", "--task", "old", "--file", str(path)).exit_code == 0
    assert run("predict", "--task", "rte", "--file", str(path), "--text-fields", "source").exit_code == 0
    assert server.asked == ["rte a: one b: two", "a magazine", "a magazine"]


def test_several_tasks_read_their_own_fields_and_are_told_apart(
    run: Run, serve: Serve, tmp_path: Path
) -> None:
    tasks = {"mail": task_of(**OWN), "id": task_of("id", fields=["id"], number=8)}
    server = serve(RowServer(tasks=tasks))
    path = write(tmp_path / "r.parquet", [{"id": "spam", "body": "fine"}])
    references = [arg for name in ("mail", "id", "mail@staging", "mail@3") for arg in ("--task", name)]
    out = tmp_path / "o.jsonl"
    done = run("predict", *references, "--file", str(path), "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    (row,) = read(out)
    labels = {name: value for name, value in row.items() if name.endswith(".label")}
    assert labels == {
        "mail.label": "ham",
        "id.label": "spam",
        "mail@staging.label": "ham",
        "mail@3.label": "ham",
    }
    assert (row["id.version"], row["mail@staging.version"]) == (8, 3)
    assert json.loads(done.stdout)["versions"] == {"mail": 3, "id": 8, "mail@staging": 3, "mail@3": 3}
    assert sorted(server.asked) == ["fine", "spam"]
    table = run("predict", *references, "--file", str(path)).stdout
    lines = run("predict", *references, "--file", str(path), "--json").stdout.splitlines()
    assert [line.split()[1] for line in table.splitlines()[3:7]] == ["mail", "id", "mail@staging", "mail@3"]
    assert [json.loads(line)["reference"] for line in lines] == ["mail", "id", "mail@staging", "mail@3"]


def test_a_row_that_cannot_be_asked_fails_alone(run: Run, mail: RowServer, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    bodies = ["spam", None, 7, "too long", "fine"]
    path.write_text("".join(json.dumps({"body": body, "n": n}) + "\n" for n, body in enumerate(bodies)))
    out = tmp_path / "o.csv"
    done = run("predict", "--task", "mail", "--file", str(path), "--out", str(out))
    assert done.exit_code == 1
    assert "error: 3 of 5 answers failed" in done.stderr
    rows = read(out)
    assert [row["predicted_label"] for row in rows] == ["spam", "", "", "", "ham"]
    assert [row["n"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert "r.jsonl, row 2: body: found null" in rows[1]["predicted_error"]
    assert "r.jsonl, row 3: body: found 7 (int)" in rows[2]["predicted_error"]
    assert rows[3]["predicted_error"] == "too_long: r.jsonl, row 4 has 900 tokens, at most 512"
    assert mail.asked == ["spam", "too long", "fine"]


@pytest.mark.parametrize(
    "refusal",
    [
        problem(413, "too_large", detail="the body is too large"),
        problem(400, "malformed", detail="no JSON"),
        problem(422, "invalid", detail="bad", errors=[{"field": "inputs.3", "got": "x"}]),
    ],
)
def test_what_one_row_does_to_a_request_is_not_done_to_its_neighbours(
    run: Run, mail: RowServer, tmp_path: Path, refusal: httpx.Response
) -> None:
    mail.refuses = lambda body: refusal if "poison" in body["inputs"] else None
    path = write(tmp_path / "r.parquet", [{"body": "poison" if n == 5 else f"spam {n}"} for n in range(9)])
    out = tmp_path / "o.jsonl"
    assert run("predict", "--task", "mail", "--file", str(path), "--out", str(out)).exit_code == 1
    assert [row["predicted_label"] for row in read(out)] == ["spam"] * 5 + [None] + ["spam"] * 3
    assert [bool(row["predicted_error"]) for row in read(out)] == [n == 5 for n in range(9)]


def test_a_refusal_of_what_is_asked_is_not_tried_row_by_row(
    run: Run, mail: RowServer, tmp_path: Path
) -> None:
    refusal = problem(422, "generate_not_allowed", detail="mail scores", errors=[{"field": "generate"}])
    mail.refuses = lambda _: refusal
    path = write(tmp_path / "r.parquet", ROWS)
    done = run("predict", "--task", "mail", "--file", str(path), "--in-flight", "1")
    assert done.exit_code == 1
    assert "mail scores" in done.stderr
    assert len(mail.requests) == 1


def test_answers_keep_the_order_of_rows_and_few_requests_are_under_way(
    run: Run, mail: RowServer, tmp_path: Path
) -> None:
    """The first request is answered last: its turn comes all the same, and no more than four are begun."""
    first, others = threading.Event(), []

    def wait(body: dict[str, Any]) -> None:
        if "0" in body["inputs"]:
            mail.lock.release()
            assert first.wait(20)
            mail.lock.acquire()
        else:
            others.append(body["inputs"])
            if len(others) >= 3:
                first.set()

    mail.refuses = wait
    path = write(tmp_path / "r.parquet", [{"body": str(n)} for n in range(40)])
    out = tmp_path / "o.jsonl"
    done = run(
        "predict", "--task", "mail", "-f", str(path), "-o", str(out), "--batch", "2", "--in-flight", "4"
    )
    assert done.exit_code == 0, done.output
    assert [row["body"] for row in read(out)] == [str(n) for n in range(40)]
    early = others[:3]
    assert sorted(early) == [["2", "3"], ["4", "5"], ["6", "7"]]


@pytest.mark.parametrize("out", ["o.csv", "o.jsonl", "o.parquet"])
def test_an_interrupted_run_goes_on_where_it_was(
    run: Run, mail: RowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """The rows are those of a run that was never interrupted, and none that was kept is asked again."""
    monkeypatch.setattr(trunkline.bulk.part, "_EVERY_S", 0.0)
    rows = [{"id": n, "body": f"spam {n}" if n % 3 else f"dear {n}"} for n in range(40)]
    path = write(tmp_path / "r.parquet", rows)
    command = ["predict", "--task", "mail", "-f", str(path), "--batch", "4", "--in-flight", "2", "-o"]
    assert run(*command, str(tmp_path / f"whole_{out}")).exit_code == 0
    mail.requests.clear()
    mail.refuses = lambda body: problem(404, detail="gone") if "spam 25" in body["inputs"] else None
    stopped = run(*command, str(tmp_path / out))
    assert stopped.exit_code == 1
    assert not (tmp_path / out).exists()
    assert "24 of 40 rows are kept in" in stopped.stderr
    with (tmp_path / f"{out}.part").open("ab") as file:
        file.write(b"what a killed run had begun to write")
    mail.requests.clear()
    mail.refuses = lambda _: None
    done = run(*command, str(tmp_path / out))
    assert done.exit_code == 0, done.output
    assert "going on after row 24 of 40" in done.stderr
    assert sorted(mail.asked) == sorted(str(row["body"]) for row in rows[24:])
    assert (tmp_path / out).read_bytes() == (tmp_path / f"whole_{out}").read_bytes()
    assert not list(tmp_path.glob("*.part*"))


@pytest.fixture
def stopped(run: Run, mail: RowServer, tmp_path: Path) -> tuple[list[str], Path]:
    """A command that was stopped after its first rows, and its output."""
    path = write(tmp_path / "r.parquet", [{"body": f"{n}"} for n in range(10)])
    out = tmp_path / "o.csv"
    mail.refuses = lambda body: problem(404, detail="gone") if "5" in body["inputs"] else None
    command = ["predict", "-f", str(path), "-o", str(out), "--batch", "2", "--in-flight", "1"]
    assert run(*command, "--task", "mail").exit_code == 1
    mail.refuses = lambda _: None
    mail.requests.clear()
    return command, out


def test_versions_are_never_mixed(run: Run, mail: RowServer, stopped: tuple[list[str], Path]) -> None:
    command, out = stopped
    moved = task_of(**OWN)
    moved["versions"].append({**moved["versions"][0], "version": 4, "digest": "b"})
    moved["aliases"] = {"production": 4}
    mail.tasks["mail"] = moved
    done = run(*command, "--task", "mail")
    assert done.exit_code == 1
    assert "mail was version 3 until then, and is 4 now); ask for mail@3 to go on with it" in done.stderr
    assert mail.requests == []
    assert run(*command, "--task", "mail@3").exit_code == 0
    assert {row["predicted_version"] for row in read(out)} == {"3"}
    assert len(mail.asked) == 6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--truncate"], "other options"),
        (["--prefix", "x_"], "other columns"),
        (["--task", "other"], "other tasks"),
        (None, "it was changed since"),
    ],
)
def test_the_part_of_another_command_is_kept_until_it_is_dropped(
    run: Run, mail: RowServer, stopped: tuple[list[str], Path], change: list[str] | None, says: str
) -> None:
    command, out = stopped
    mail.tasks["other"] = task_of("other", fields=["body"])
    if change is None:
        write(Path(command[2]), [{"body": f"{n}!"} for n in range(10)])
    args = [
        *command,
        *(["--task", "mail"] if change is None or "--task" not in change else []),
        *(change or []),
    ]
    part = out.with_name("o.csv.part")
    before = part.read_bytes()
    done = run(*args)
    assert done.exit_code == 1
    assert says in done.stderr
    assert part.read_bytes() == before
    assert mail.requests == []
    fresh = run(*args, "--overwrite")
    assert fresh.exit_code == 0, fresh.output
    assert "begun anew" in fresh.stderr
    assert len(read(out)) == 10
    assert len(mail.asked) == 10


def test_a_run_that_answered_nothing_leaves_nothing(run: Run, mail: RowServer, tmp_path: Path) -> None:
    path, out = write(tmp_path / "r.csv", ROWS), tmp_path / "o.csv"
    mail.refuses = lambda _: problem(404, detail="gone")
    done = run("predict", "--task", "mail", "-f", str(path), "-o", str(out))
    assert done.exit_code == 1
    assert done.stderr.splitlines() == ["note: r.csv: columns are separated by ';'", "error: gone"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_no_rows_has_the_columns_alone(run: Run, mail: RowServer, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("id,body\n")
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"o.{ending}"
        assert run("predict", "--task", "mail", "-f", str(path), "-o", str(out)).exit_code == 0
        assert read(out) == []
    assert (tmp_path / "o.csv").read_text().startswith("id,body,predicted_label,")


def test_the_flag_for_json_lines_changes_nothing_of_a_file_that_says_so(
    run: Run, mail: RowServer, tmp_path: Path
) -> None:
    path = write(tmp_path / "r.jsonl.gz", ROWS)
    assert run("predict", "--task", "mail", "--jsonl", "-f", str(path)).exit_code == 0
    other = tmp_path / "r.dat"
    other.write_text('{"text": "in lines"}\n')
    assert run("predict", "--task", "mail", "--jsonl", "-f", str(other)).exit_code == 0
    assert mail.asked == [*(row["body"] for row in ROWS), "in lines"]
    done = run("predict", "--task", "mail", "--jsonl", "-f", str(write(tmp_path / "r.csv", ROWS)))
    assert "r.csv is no file of JSON lines; leave --jsonl out" in done.stderr


def test_what_is_there_is_not_replaced_unless_said(run: Run, mail: RowServer, tmp_path: Path) -> None:
    path, out = write(tmp_path / "r.csv", ROWS), tmp_path / "o.csv"
    out.write_text("mine")
    done = run("predict", "--task", "mail", "-f", str(path), "-o", str(out))
    assert done.exit_code == 1
    assert "o.csv is there already" in done.stderr
    assert out.read_text() == "mine"
    foreign = tmp_path / "p.csv.part"
    foreign.write_text("mine too")
    done = run("predict", "--task", "mail", "-f", str(path), "-o", str(tmp_path / "p.csv"))
    assert done.exit_code == 1
    assert foreign.read_text() == "mine too"
    assert run("predict", "--task", "mail", "-f", str(path), "-o", str(out), "--overwrite").exit_code == 0
    assert len(read(out)) == 3


def test_a_column_that_answers_would_hide_is_refused(run: Run, mail: RowServer, tmp_path: Path) -> None:
    """Also where only the last row has it."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"body": "a"}\n{"body": "b", "predicted_label": "mine"}\n')
    command = ["predict", "--task", "mail", "-f", str(path), "-o", str(tmp_path / "o.csv")]
    done = run(*command)
    assert done.exit_code == 1
    assert "'predicted_label' already" in done.stderr
    assert "--prefix" in done.stderr
    assert run(*command, "--prefix", "new_").exit_code == 0
    assert [row["predicted_label"] for row in read(tmp_path / "o.csv")] == ["", "mine"]
    assert [row["new_label"] for row in read(tmp_path / "o.csv")] == ["ham", "ham"]


def test_a_broken_row_at_the_end_is_told_before_anything_is_asked(
    run: Run, mail: RowServer, tmp_path: Path
) -> None:
    path = tmp_path / "r.csv"
    path.write_text("id,body\n" + "1,fine\n" * 500 + "2,one,too many\n")
    done = run("predict", "--task", "mail", "-f", str(path), "-o", str(tmp_path / "o.csv"))
    assert done.exit_code == 1
    assert "r.csv, row 502" in done.stderr
    assert mail.requests == []


def test_values_of_a_row_stay_what_they_are(run: Run, mail: RowServer, tmp_path: Path) -> None:
    """Types in Parquet, null in JSON, and in CSV the text that stands for each."""
    kinds = pa.schema(
        [("body", pa.string()), ("n", pa.int32()), ("at", pa.timestamp("s")), ("tags", pa.list_(pa.string()))]
    )
    values = {"body": ["a\rb", "c"], "n": [1, None], "at": [0, None], "tags": [["x", "y"], None]}
    path = tmp_path / "r.parquet"
    parquet.write_table(pa.Table.from_pydict(values, kinds), path)
    command = ["predict", "--task", "mail", "-f", str(path), "-o"]
    for ending in ("parquet", "jsonl", "csv"):
        assert run(*command, str(tmp_path / f"o.{ending}"), "--top-k", "2", "--raw").exit_code == 0
    written = parquet.read_table(tmp_path / "o.parquet")
    assert written.select(kinds.names).equals(parquet.read_table(path))
    assert written["predicted_scores"].to_pylist()[0] == [
        {"label": "ham", "score": 0.75},
        {"label": "other", "score": 0.25},
    ]
    first, second = read(tmp_path / "o.jsonl")
    assert (first["at"], first["tags"], second["n"]) == ("1970-01-01T00:00:00", ["x", "y"], None)
    assert first["predicted_scores"] == {"ham": 0.75, "other": 0.25}
    first, second = read(tmp_path / "o.csv")
    assert (first["body"], first["n"], first["tags"]) == ("a\rb", "1", '["x", "y"]')
    assert (second["n"], second["at"], second["tags"]) == ("", "", "")


def test_json_values_of_several_types_become_text_in_a_typed_file(
    run: Run, mail: RowServer, tmp_path: Path
) -> None:
    lines = [
        {"body": "a", "n": 1, "big": 2**60, "x": 1},
        {"body": "b\ud83d", "n": 2.5, "big": 0.5, "x": "one"},
        {"body": "c"},
    ]
    path, out = tmp_path / "r.jsonl", tmp_path / "o.parquet"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("predict", "--task", "mail", "-f", str(path), "-o", str(out)).exit_code == 0
    written = parquet.read_table(out)
    assert written["n"].to_pylist() == [1.0, 2.5, None]
    assert written["big"].to_pylist() == [str(2**60), "0.5", None]
    assert written["x"].to_pylist() == ["1", "one", None]
    assert written["body"].to_pylist() == ["a", "b\ufffd", "c"]


def test_a_folder_with_several_splits_needs_a_word(run: Run, mail: RowServer, tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write(tmp_path / f"{name}.parquet", [{"body": name}])
    done = run("predict", "--task", "mail", "--file", str(tmp_path))
    assert done.exit_code == 1
    assert "holds train, test; say which with --split" in done.stderr
    assert run("predict", "--task", "mail", "--file", str(tmp_path), "--split", "train").exit_code == 0
    assert mail.asked == ["train-00000-of-00002", "train-00001-of-00002"]


def test_a_connection_that_breaks_once_is_asked_again(
    run: Run, mail: RowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trunkline.bulk.asking, "_WAITS_S", (0.0,))
    mail.refuses = lambda _: httpx.ReadError("broken") if len(mail.requests) == 1 else None
    path = write(tmp_path / "r.csv", ROWS)
    assert run("predict", "--task", "mail", "-f", str(path)).exit_code == 0
    mail.refuses = lambda _: httpx.ReadTimeout("slow")
    mail.requests.clear()
    done = run("predict", "--task", "mail", "-f", str(path))
    assert "did not answer in time" in done.stderr
    assert len(mail.requests) == 1


def test_a_regression_and_a_task_with_several_labels(run: Run, serve: Serve, tmp_path: Path) -> None:
    tasks = {
        "score": task_of("score", kind="regression", labels=["score"]),
        "tags": task_of("tags", kind="multi_label"),
    }
    server = serve(RowServer(tasks=tasks))
    answer = {"score": 0.5, "scores": {}, "tokens": 1, "truncated": False}
    several = [
        {"task": name, "version": 3, "predictions": [{**answer, "label": label}]}
        for name, label in (("score", None), ("tags", ["a", "b, c"]))
    ]
    server.refuses = lambda _: ok({"results": several})
    path = write(tmp_path / "r.csv", [{"text": "x"}])
    for ending, label in ((".csv", '["a", "b, c"]'), (".jsonl", ["a", "b, c"]), (".parquet", ["a", "b, c"])):
        out = tmp_path / f"o{ending}"
        args = ["--task", "score", "--task", "tags", "--top-k", "1"]
        assert run("predict", *args, "-f", str(path), "-o", str(out)).exit_code == 0
        (row,) = read(out)
        assert row["tags.label"] == label
        assert {"score.label", "score.scores"}.isdisjoint(row)
        assert float(row["score.score"]) == 0.5


def test_flags_that_are_for_files(run: Run, mail: RowServer, tmp_path: Path) -> None:
    lines = tmp_path / "r.txt"
    lines.write_text("one\n")
    for args in (["x", "--out", "o.csv"], ["-f", str(lines), "--prefix", "x"], ["x", "--text-fields", "a"]):
        assert run("predict", "--task", "mail", *args).exit_code == 2
    done = run("predict", "--task", "mail", "-f", str(lines), "--text-fields", "a")
    assert done.exit_code == 2
    assert mail.requests == []


@pytest.mark.parametrize(
    ("reference", "says"), [("mail@9", "no 9 (mail@9)"), ("mail@x", "no x"), ("no", "no task")]
)
def test_a_version_that_is_not_there(
    run: Run, mail: RowServer, tmp_path: Path, reference: str, says: str
) -> None:
    path = write(tmp_path / "r.csv", ROWS)
    done = run("predict", "--task", reference, "-f", str(path), "-o", str(tmp_path / "o.csv"))
    assert done.exit_code == 1
    assert says in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv"]


def test_help_shows_a_table_in_and_a_table_out(run: Run) -> None:
    page = " ".join(run("predict", "--help").stdout.split())
    assert "--file tickets.csv --out answered.csv" in page
