"""Rows of a case: drawn by a seed, as many as wanted, apart from the test rows."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.draws import Case, draw

LABELS = ["a", "b", "c"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set of 30 train and 9 test rows, of which one train row has the text of a test row."""
    folder = tmp_path / "toy"
    folder.mkdir()
    card = {"kind": "single_sentence", "text_fields": ["sentence"], "label_names": LABELS}
    (folder / "dataset.json").write_text(json.dumps(card))
    train = [{"sentence": f"train {row}", "label": row % 3, "idx": row} for row in range(29)]
    train.append({"sentence": "test 4", "label": 1, "idx": 29})
    test = [{"sentence": f"test {row}", "label": row % 3, "idx": row} for row in range(9)]
    for name, rows in (("train", train), ("test", test)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def _texts(rows: tuple[dict[str, Any], ...]) -> list[str]:
    return [row["sentence"] for row in rows]


def test_a_seed_draws_the_train_rows_and_never_the_test_rows(data: Path) -> None:
    case = Case("toy", "toy", rows=20)
    first, again, other = draw(case, data, 0), draw(case, data, 0), draw(case, data, 1)
    assert first == again
    assert _texts(first.train) != _texts(other.train)
    assert first.test == other.test
    assert len(set(_texts(first.train))) == 20
    assert len(draw(Case("toy", "toy", rows=20, max_test_rows=4), data, 0).test) == 4


def test_no_train_row_has_the_text_of_a_test_row(data: Path) -> None:
    drawn = draw(Case("toy", "toy", rows=29), data, 0)
    assert not set(_texts(drawn.train)) & set(_texts(drawn.test))
    with pytest.raises(ValueError, match="toy: 30 rows are wanted, toy has 29"):
        draw(Case("toy", "toy", rows=30), data, 0)


def test_so_many_rows_of_each_class(data: Path) -> None:
    drawn = draw(Case("toy", "toy", per_class=4), data, 3)
    assert sorted(row["label"] for row in drawn.train) == [0] * 4 + [1] * 4 + [2] * 4


def test_a_class_as_a_number_is_a_regression(data: Path, tmp_path: Path) -> None:
    drawn = draw(Case("toy", "toy", rows=5, numbers=True), data, 0)
    assert drawn.numbers
    assert drawn.truth == [float(row % 3) for row in range(9)]
    drawn.write(tmp_path)
    card = json.loads((tmp_path / "dataset.json").read_text())
    assert (card["kind"], card["label_names"]) == ("regression", [])
    problem = drawn.problem("folder", "cpu", 7)
    assert (problem.numbers, problem.num_labels, problem.seed) == (True, 1, 7)


def test_the_alternatives_get_the_same_rows_as_the_folder_has(data: Path, tmp_path: Path) -> None:
    drawn = draw(Case("toy", "toy", rows=12), data, 0)
    drawn.write(tmp_path)
    written = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    problem = drawn.problem("folder", "cpu", 0)
    assert [row.texts for row in problem.train] == [(row["sentence"],) for row in written]
    assert problem.labels == [row["label"] for row in written]
    assert problem.test == tuple((text,) for text in _texts(drawn.test))
    assert problem.num_labels == 3
