"""Cells of the contest: which are missing, what is kept of them, how answers are scored."""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import contest, record
from benchmarks.contest import Contender, Entry, Job, Place, is_made, scores
from benchmarks.draws import Case, Drawn

CASE = Case("toy", "toy", rows=4)


def _told(value: float, job: Job) -> dict[str, Any]:
    """A contender that fails on seed 1."""
    if job.seed == 1:
        raise ValueError("it failed on purpose")
    assert (job.folder / "train.jsonl").exists()
    return {"values": {"accuracy": value}, "seconds": 0.0}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    folder = tmp_path / "toy"
    folder.mkdir()
    card = {"kind": "single_sentence", "text_fields": ["sentence"], "label_names": ["a", "b"]}
    (folder / "dataset.json").write_text(json.dumps(card))
    for name in ("train", "test"):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(json.dumps({"sentence": f"{name} {i}", "label": i % 2}) + "\n" for i in range(8))
    return Place("none", "none", "cpu", tmp_path, "", "")


def test_a_cell_is_made_again_when_other_rows_are_wanted() -> None:
    entry = Entry(CASE, Contender("x", functools.partial(_told, 0.5)), 0)
    assert not is_made(entry, {})
    assert is_made(entry, {"toy/x/0": {"train_rows": 4}})
    assert not is_made(entry, {"toy/x/0": {"train_rows": 5}})
    few = Entry(Case("toy", "toy", per_class=2), entry.contender, 0)
    assert is_made(few, {"toy/x/0": {"train_rows": 4}})


def test_processes_keep_what_they_made_and_tell_what_failed(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """One bad cell ends no other; a second run makes only what is missing."""
    contender = Contender("x", functools.partial(_told, 0.75))
    entries = [Entry(CASE, contender, seed) for seed in range(3)]
    assert contest.run("trial", entries, place, 2, 10.0) == 1
    found = record.read("trial")
    assert sorted(found) == ["toy/x/0", "toy/x/2"]
    assert found["toy/x/2"]["value"] == 0.75
    assert found["toy/x/2"]["train_rows"] == 4
    told = capfd.readouterr().out
    assert "FAILED toy/x/1" in told
    assert "it failed on purpose" in told
    assert contest.run("trial", entries, place, 1, 10.0) == 1
    assert "trial: 1 cells to make" in capfd.readouterr().out


def test_no_cell_is_started_when_the_time_is_over(place: Place) -> None:
    entries = [Entry(CASE, Contender("x", functools.partial(_told, 0.5)), 0)]
    assert contest.run("trial", entries, place, 1, 0.0) == 0
    assert record.read("trial") == {}


def test_answers_of_others_are_scored_by_the_functions_that_score_ours() -> None:
    card = {"kind": "single_sentence", "text_fields": ["s"], "label_names": ["no", "yes"]}
    rows = tuple({"s": str(i), "label": label} for i, label in enumerate([0, 1, 1, 1]))
    found = scores(Drawn(card, (), rows), [0, 1, 1, 0])
    assert found["accuracy"] == 0.75
    assert found["f1"] == pytest.approx(0.8)
    numbers = Drawn(card | {"label_names": []}, (), tuple({"s": "", "label": x} for x in (1.0, 2.0, 4.0)))
    assert scores(numbers, [1.0, 2.0, 4.0])["pearson"] == pytest.approx(1.0)
