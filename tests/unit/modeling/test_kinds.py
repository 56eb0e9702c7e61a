"""Answers: activation, order, top_k, thresholds, ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modeling import Abstention, Answer, HeadSpec, kind_of, readout_of
from modeling.kinds import base
from tests.tiny import answer

ABC = ("a", "b", "c")


def test_single_label_is_a_softmax_best_first() -> None:
    got = answer(HeadSpec("single_label", ABC), np.array([1.0, 3.0, 2.0]))
    assert list(got.scores) == ["b", "c", "a"]
    assert got.label == "b"
    assert got.score == pytest.approx(np.exp(3) / np.exp([1, 2, 3]).sum())
    assert sum(got.scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_extreme_logits_do_not_overflow(kind: str) -> None:
    with np.errstate(all="raise", under="ignore"):
        got = answer(HeadSpec(kind, ABC), np.array([1e4, -1e4, 0.0]))
    assert all(0 <= score <= 1 for score in got.scores.values())


def test_multi_label_takes_everything_over_its_threshold() -> None:
    logits = np.array([0.1, 5.0, -5.0])
    assert answer(HeadSpec("multi_label", ABC), logits).label == ["b", "a"]
    assert answer(HeadSpec("multi_label", ABC, threshold=0.9), logits).label == ["b"]
    assert answer(HeadSpec("multi_label", ABC, threshold=0.999), logits).label == []


def test_top_k_cuts_scores_and_not_labels() -> None:
    got = answer(HeadSpec("multi_label", ABC), np.array([1.0, 2.0, -1.0]), top_k=1)
    assert got.label == ["b", "a"]
    assert list(got.scores) == ["b"]
    assert len(answer(HeadSpec("single_label", ABC), np.zeros(3), top_k=99).scores) == 3


def test_regression_stays_in_range() -> None:
    spec = HeadSpec("regression", ("stars",), low=1.0, high=5.0)
    got = answer(spec, np.array([7.5], dtype=np.float32))
    assert (got.label, got.score, got.scores) == (None, 5.0, {"stars": 5.0})
    assert answer(spec, np.array([-1.0])).score == 1.0
    assert answer(HeadSpec("regression", ("stars",)), np.array([-1.0])).score == -1.0


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (HeadSpec("single_label", ("a",)), "head.labels"),
        (HeadSpec("single_label", ("a", "a")), "head.labels"),
        (HeadSpec("multi_label", ()), "head.labels"),
        (HeadSpec("multi_label", ABC, threshold=1.5), "head.threshold"),
        (HeadSpec("regression", ABC), "head.labels"),
        (HeadSpec("single_label", ABC, threshold=0.5), "head.threshold"),
        (HeadSpec("multi_label", ABC, low=0.0), "head.low"),
        (HeadSpec("regression", ("v",), threshold=0.5), "head.threshold"),
        (HeadSpec("multiple_choice", ("a",)), "head.labels"),
        (HeadSpec("multiple_choice", ("choice",), max_new_tokens=3), "head.max_new_tokens"),
        (HeadSpec("regression", ("v",), temperature=2.0), "head.temperature"),
        (HeadSpec("regression", ("v",), abstain=Abstention(0.5, 0.1, 1.0, 0.0, 0.1, 9)), "head.abstain"),
        (HeadSpec("multi_label", ABC, abstain=Abstention(0.5, 0.1, 1.0, 0.0, 0.1, 9)), "head.abstain"),
        (HeadSpec("text_to_text", (), "none", temperature=2.0, max_new_tokens=3), "head.temperature"),
        (HeadSpec("text_to_text", ("a", " "), "none"), "head.labels"),
        (HeadSpec("text_to_text", ("a", "a"), "none"), "head.labels"),
        (HeadSpec("text_to_text", ("a", "b"), "mean"), "head.pooling"),
        (HeadSpec("text_to_text", ("a", "b"), "none", max_new_tokens=3), "head.max_new_tokens"),
        (HeadSpec("text_to_text", (), "none"), "head.max_new_tokens"),
        (HeadSpec("text_to_text", (), "eos", max_new_tokens=3), "head.pooling"),
        (HeadSpec("text_to_text", (), "none", threshold=0.5, max_new_tokens=3), "head.threshold"),
    ],
)
def test_specs_that_make_no_sense(spec: HeadSpec, field: str) -> None:
    assert [failure.field for failure in readout_of(spec).check(spec)] == [field]


def margins(spec: HeadSpec, logits: list[list[float]], index: int) -> list[float]:
    return [float(value) for value in kind_of(spec).margin(spec, np.array(logits), index)]


def test_a_margin_turns_its_sign_where_the_answer_turns() -> None:
    assert margins(HeadSpec("single_label", ABC), [[1.0, 3.0, 2.5], [1.0, 3.0, 4.0]], 1) == [0.5, -1.0]
    assert margins(HeadSpec("multiple_choice", ("choice",)), [[1.0, 3.0]], 0) == [-2.0]
    assert margins(HeadSpec("text_to_text", ("w1",), "none"), [[-2.5]], 0) == [-2.5]
    spec = HeadSpec("multi_label", ABC, threshold=0.9)
    at_the_threshold = float(np.log(9))
    assert margins(spec, [[0.0, at_the_threshold, 0.0]], 1) == pytest.approx([0.0])
    assert margins(HeadSpec("multi_label", ABC), [[0.0, 1.5, -1.0]], 2) == [-1.0]


@pytest.mark.parametrize("logit", [2.0, 4.0, 5.0])
def test_a_margin_over_a_threshold_turns_its_sign_where_the_answer_turns_under_a_temperature(
    logit: float,
) -> None:
    spec = HeadSpec("multi_label", ABC, threshold=0.9, temperature=2.0)  # assigned from 2 ln 9 = 4.39 on
    (margin,) = margins(spec, [[0.0, logit, -9.0]], 1)
    assert (margin > 0) == ("b" in (answer(spec, np.array([0.0, logit, -9.0])).label or []))


def test_a_number_is_weighed_before_it_is_kept_inside_its_range() -> None:
    spec = HeadSpec("regression", ("stars",), low=1.0, high=5.0)
    assert margins(spec, [[7.5], [2.0]], 0) == [7.5, 2.0]
    assert kind_of(spec).probability(spec, np.array([[7.5]]), 0) is None


@pytest.mark.parametrize("temperature", [None, 2.5])
@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_probabilities_are_the_scores_of_answers(kind: str, temperature: float | None) -> None:
    spec, logits = HeadSpec(kind, ABC, temperature=temperature), np.array([1.0, -3.0, 2.0])
    told = answer(spec, logits).scores
    for index, label in enumerate(ABC):
        found = kind_of(spec).probability(spec, logits[None], index)
        assert found is not None
        assert found[0] == pytest.approx(told[label])


def test_the_probability_of_a_text_is_that_of_its_one_logit() -> None:
    spec = HeadSpec("text_to_text", (), "none", max_new_tokens=4)
    found = kind_of(spec).probability(spec, np.array([[-1.0]]), 0)
    assert found == pytest.approx([np.exp(-1.0)])


def test_a_temperature_divides_the_logits_and_moves_no_label() -> None:
    logits = np.array([1.0, 3.0, 2.0])
    for kind in ("single_label", "multiple_choice"):
        labels = ABC if kind == "single_label" else ("choice",)
        cool, warm = (
            answer(HeadSpec(kind, labels), logits),
            answer(HeadSpec(kind, labels, temperature=2), logits),
        )
        assert list(warm.scores) == list(cool.scores)
        assert warm.score == pytest.approx(np.exp(1.5) / np.exp([0.5, 1.0, 1.5]).sum())
    several = answer(HeadSpec("multi_label", ABC, temperature=2.0), logits)
    assert several.scores["b"] == pytest.approx(1 / (1 + np.exp(-1.5)))


@pytest.mark.parametrize("kind", ["single_label", "multiple_choice"])
def test_under_its_threshold_a_task_withholds_its_label_and_shows_its_scores(kind: str) -> None:
    labels = ABC if kind == "single_label" else ("choice",)
    spec = HeadSpec(kind, labels, temperature=0.5, abstain=Abstention(0.8, 0.05, 0.5, 0.0, 0.05, 100))
    sure, unsure = answer(spec, [0.0, 2.0, 0.0]), answer(spec, [0.0, 1.0, 0.0])
    assert sure.score == pytest.approx(np.exp(4) / (np.exp(4) + 2))  # 0.96
    assert sure.label is not None
    assert not sure.unknown
    assert unsure.score == pytest.approx(np.exp(2) / (np.exp(2) + 2))  # 0.79
    assert (unsure.label, unsure.choice, unsure.unknown) == (None, None, True)
    assert list(unsure.scores) == list(sure.scores)
    assert sum(unsure.scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("score", [0.6, 0.59999])
def test_the_threshold_itself_is_answered(score: float) -> None:
    spec = HeadSpec("single_label", ("a", "b"), abstain=Abstention(0.6, 0.05, 0.5, 0.0, 0.05, 100))
    found = Answer("a", score, {}).unless_unsure(spec)
    assert found.unknown == (score < 0.6)


@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, 9)),
        elements=st.sampled_from([0.5, 0.25, 0.0, -0.0, -1.0]),
    ),
    st.none() | st.integers(1, 10),
)
def test_few_scores_are_sorted_as_many_are(scores: Any, top_k: int | None) -> None:
    """Equal ones too, and to the last bit."""
    labels = [f"l{place}" for place in range(scores.shape[1])]
    few = base.best_first(labels, scores, top_k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "FEW_SCORES", 0)
        assert repr(base.best_first(labels, scores, top_k)) == repr(few)
