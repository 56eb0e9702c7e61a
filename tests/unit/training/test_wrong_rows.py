"""`--errors`: the page for new rows, and the wrong rows as CSV and JSON lines, for every kind."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modeling import Backbone
from tests.tiny import tiny_backbone
from tests.unit.training.conftest import Told, agree, make_rows, quick, write_rows
from tests.unit.training.pages import read_page
from tests.unit.training.test_free_text import write_answers
from training.data.card import Flags
from training.errors import ConfigError
from training.file.evaluate import FileEvaluation, evaluate_file
from training.file.wrong_rows import check_errors_path, write_errors, wrong_rows
from training.run import train


@pytest.fixture
def evaluated(
    task_folder: Callable[..., Path], tmp_path: Path, backbone: Backbone
) -> Callable[..., FileEvaluation]:
    """A file that was hardly trained, on rows of which it gets some wrong."""

    def build(kind: str, **changes: Any) -> FileEvaluation:
        folder, out = task_folder(kind), tmp_path / "a.safetensors"
        config = quick(folder, out, **{"epochs": 1, **changes})
        train(config, backbone=backbone, progress=Told(), verify=agree)
        return evaluate_file(out, folder, backbone=backbone)

    return build


@pytest.mark.parametrize(
    "kind", ["single_sentence", "sentence_pair", "multi_label", "multiple_choice", "regression"]
)
def test_all_forms_have_the_same_rows(
    evaluated: Callable[..., FileEvaluation], tmp_path: Path, kind: str
) -> None:
    found = evaluated(kind)
    wanted = [
        row.row
        for row in found.rows
        if kind == "regression" or sorted(row.expected) != sorted(row.label or [])
    ]
    assert len(wanted) > 2
    (tmp_path / "new").mkdir()
    for ending in ("html", "csv", "jsonl"):
        write_errors(tmp_path / "new" / f"e.{ending}", found)
    lines = [json.loads(line) for line in (tmp_path / "new" / "e.jsonl").read_text().splitlines()]
    assert sorted(line["row"] for line in lines) == wanted
    with (tmp_path / "new" / "e.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [int(row["row"]) for row in cells] == [line["row"] for line in lines]
    assert [row["text"] for row in cells] == [line["text"] for line in lines]
    page = read_page((tmp_path / "new" / "e.html").read_text())
    rows = page.column("Rows furthest off" if kind == "regression" else "Wrong rows", "row")
    assert rows == [str(line["row"]) for line in lines]
    assert page.tables["Scores"][1][-1] == f"{found.value:.4f}"
    assert ("text_pair" in lines[0]) == (kind == "sentence_pair")
    assert ("choices" in lines[0]) == (kind == "multiple_choice")
    losses = [line["loss"] for line in lines]
    if kind == "regression":
        assert losses == sorted(losses, reverse=True)
        assert [abs(line["answered"] - line["expected"]) for line in lines] == pytest.approx(losses)


def test_withheld_rows_say_so(evaluated: Callable[..., FileEvaluation], tmp_path: Path) -> None:
    found = evaluated("single_sentence", abstain=0.01)
    withheld = {row.row for row in found.rows if row.unknown}
    assert withheld
    assert {row["row"] for row in wrong_rows(found) if row["unknown"]} <= withheld
    write_errors(tmp_path / "e.html", found)
    page = read_page((tmp_path / "e.html").read_text())
    answered = dict(zip(page.column("Wrong rows", "row"), page.column("Wrong rows", "answered"), strict=True))
    for row, answer in answered.items():
        assert answer.startswith("unknown (") == (int(row) in withheld)
    assert "Withheld labels" in page.tables


def test_free_text_shows_what_was_written(tmp_path: Path) -> None:
    folder, backbone = write_answers(tmp_path / "data"), tiny_backbone("t5")
    out = tmp_path / "a.safetensors"
    config = quick(folder, out, form="text-to-text", kind="free_text", method="bitfit", epochs=1)
    train(config, backbone=backbone, progress=Told(), verify=agree)
    found = evaluate_file(out, folder, backbone=backbone)
    rows = list(wrong_rows(found))
    assert rows
    written = {row.row: row.generated for row in found.rows}
    assert all(row["answered"] == written[row["row"]] for row in rows)
    write_errors(tmp_path / "e.html", found)
    read_page((tmp_path / "e.html").read_text())


def test_odd_characters_are_written_and_read_back(tmp_path: Path, backbone: Backbone) -> None:
    rows = make_rows("single_sentence", 40, 1)
    odd = ["=1+1", 'a"b,c', "two\nlines", "\u202ex", "<b>"]
    for index, text in enumerate(odd):
        rows[index] |= {"text": text, "label": (rows[index]["label"] + 1) % 3}
    folder = tmp_path / "data"
    for split in ("train", "validation"):
        write_rows(folder / f"{split}.jsonl", rows)
    out = tmp_path / "a.safetensors"
    config = quick(folder, out, kind="single_sentence", epochs=1)
    train(config, backbone=backbone, progress=Told(), verify=agree)
    found = evaluate_file(out, folder, backbone=backbone, flags=Flags(kind="single_sentence"))
    write_errors(tmp_path / "e.csv", found)
    write_errors(tmp_path / "e.jsonl", found)
    wanted = [row["text"] for row in wrong_rows(found)]
    assert set(wanted) & set(odd)
    with (tmp_path / "e.csv").open(newline="", encoding="utf-8") as file:
        assert [row["text"] for row in csv.DictReader(file)] == wanted
    lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["text"] for line in lines] == wanted


def test_where_errors_may_go(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_rows(data / "test.jsonl", [{"text": "a", "label": 0}])
    check_errors_path(tmp_path / "new" / "wrong.HTML", data)
    check_errors_path(data / "wrong.jsonl", data)
    with pytest.raises(ConfigError, match=r"--errors is 'wrong.xlsx'; allowed: .*\.html, \.csv, \.jsonl"):
        check_errors_path(tmp_path / "wrong.xlsx", data)
    for own in (data, data / "test.jsonl"):
        with pytest.raises(ConfigError, match=r"'test.jsonl', which is a file of the data"):
            check_errors_path(data / "test.jsonl", own)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ConfigError, match=r"--errors is '.*folder.html', not a file that can be written"):
        check_errors_path(tmp_path / "folder.html", data)
