"""What the alternatives are given and what is made of their answers; the libraries themselves are not run."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import linear
from benchmarks.peers.problem import Problem, Row, Texts, read_rows, write_rows
from benchmarks.peers.setfit_model import setfit
from benchmarks.peers.trainer import Clock, Recipe, tuned


def _problem(labels: list[float], *, numbers: bool = False) -> Problem:
    rows = tuple(Row((f"text {index}",), label) for index, label in enumerate(labels))
    return Problem(rows, (("one",), ("two",)), 1 if numbers else 2, numbers, "none")


def test_rows_survive_a_file_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = (Row(("one",), 2.0), Row(("ö", "two\nlines"), 0.5))
    write_rows(path, rows)
    assert read_rows(path) == rows
    path.write_text(path.read_text() + '{"texts": ["no label"]}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 3: wanted"):
        read_rows(path)


def test_few_rows_still_get_the_least_steps() -> None:
    assert Recipe(1e-3, epochs=5).steps(65) == 15
    assert Recipe(1e-3, epochs=5, min_steps=100).steps(65) == 100


def test_the_rate_that_is_best_on_held_out_rows_learns_from_all_rows() -> None:
    asked: list[tuple[float, int, int]] = []

    def run(problem: Problem, rate: float) -> list[float]:
        asked.append((rate, len(problem.train), len(problem.test)))
        return [1.0 if rate == 2.0 else 0.0] * len(problem.test)

    answers = tuned(_problem([1.0] * 20), (1.0, 2.0, 3.0), run)
    assert asked == [(1.0, 18, 2), (2.0, 18, 2), (3.0, 18, 2), (2.0, 20, 2)]
    assert answers == [1.0, 1.0]


def test_numbers_are_tuned_by_their_squared_error() -> None:
    def run(problem: Problem, rate: float) -> list[float]:
        return [rate] * len(problem.test)

    assert tuned(_problem([2.4] * 20, numbers=True), (1.0, 2.0, 3.0), run) == [2.0, 2.0]


def test_steps_that_warm_up_do_not_count() -> None:
    clock = Clock(skip=2, device="cpu")
    clock.ends = [0.0, 90.0, 100.0, 101.0, 103.0]
    assert clock.seconds_per_step == pytest.approx(1.5)


def test_regularisation_is_chosen_for_rare_classes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of one row has no fold of its own; C = 1 is weaker here than what is chosen."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))
    labels = [0.0] * 12 + [1.0] * 9 + [2.0] * 3 + [3.0]

    def features(rows: list[Texts], *_: str) -> np.ndarray:
        chosen = labels if len(rows) == len(labels) else [0.0, 1.0]
        made = np.array([centres[int(label)] for label in chosen])
        return 0.05 * (made + 0.1 * rng.normal(size=made.shape))

    monkeypatch.setattr(linear, "features", features)
    assert linear.logistic_cv(_problem(labels)) == [0.0, 1.0]
    assert linear.logistic(_problem(labels)) == [0.0, 0.0]


def test_setfit_is_not_asked_for_pairs() -> None:
    pairs = Problem((Row(("one", "two"), 0.0),), (("a", "b"),), 2, False, "none")
    with pytest.raises(ValueError, match="single texts"):
        setfit(pairs)
