"""Labels as they stand in files, thresholds, standardised targets, baselines."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from modeling import HeadSpec, readouts
from modeling.kinds import multi_label as kinds_multi_label
from modeling.kinds import multiple_choice as kinds_multiple_choice
from tests.tiny import answer
from training.formats import Scale
from training.metrics.scores import Metric
from training.rows.canonical import TargetError
from training.rows.labels import Labels
from training.tasks import TASKS, base, multi_label, multiple_choice
from training.tasks.as_strings import AsStrings
from training.tasks.multi_label import MultiLabel
from training.tasks.multiple_choice import MultipleChoice
from training.tasks.regression import Regression
from training.tasks.single_label import SingleLabel

LABELS = ("no", "yes", "7")
SINGLE = SingleLabel(LABELS, Metric("accuracy"))
MULTI = MultiLabel(LABELS, Metric("micro_f1"))
NONE = Labels((), {})
NUMBER = Regression(("score",), Metric("pearson_spearman"))


def test_words_that_stand_twice_so_that_reading_needs_no_torch_are_the_same() -> None:
    assert base.DECODER_KIND == readouts.DECODER_KIND
    assert multi_label.DEFAULT_THRESHOLD == kinds_multi_label.DEFAULT_THRESHOLD
    assert multiple_choice._CHOICE_LABEL == kinds_multiple_choice.CHOICE_LABEL


@pytest.mark.parametrize(("value", "expected"), [("1.5", 1.5), (2, 2.0), ("-3e2", -300.0)])
def test_a_number(value: Any, expected: float) -> None:
    assert NUMBER.parse(value, NONE) == expected


@pytest.mark.parametrize("value", ["", "x", None, True, "nan", math.inf, [1.0]])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(TargetError):
        NUMBER.parse(value, NONE)


def test_the_threshold_with_the_best_metric_is_chosen_and_answers_with_it() -> None:
    probabilities = np.array([[0.3, 0.2, 0.1], [0.2, 0.35, 0.1], [0.1, 0.1, 0.4], [0.15, 0.1, 0.05]])
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    targets = [(0,), (1,), (2,), ()]
    task = MULTI.calibrated(logits, targets)
    assert task.threshold is not None
    assert 0.2 < task.threshold <= 0.3
    assert task.scores(logits, targets)["micro_f1"] == 1.0
    assert MULTI.scores(logits, targets)["micro_f1"] == 0.0


def test_equal_thresholds_stay_near_a_half() -> None:
    logits = np.array([[9.0, -9.0, -9.0], [-9.0, 9.0, -9.0]], dtype=np.float32)
    assert MULTI.calibrated(logits, [(0,), (1,)]).threshold == 0.5


def test_answers_agree_with_the_heads_of_modeling() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    multi = MultiLabel(LABELS, Metric("micro_f1"), threshold=0.35)
    spec = HeadSpec("multi_label", LABELS, threshold=0.35)
    assert multi.answers(logits) == [answer(spec, row).label for row in logits]
    spec = HeadSpec("single_label", LABELS)
    assert SINGLE.answers(logits) == [answer(spec, row).label for row in logits]
    number = Regression(("score",), Metric("mae"), value_range=(-0.5, 0.5))
    spec = HeadSpec("regression", ("score",), low=-0.5, high=0.5)
    column = logits[:, :1]
    assert number.answers(column) == [answer(spec, row).score for row in column]


def test_a_regression_is_standardised_and_folded_back() -> None:
    targets = [10.0, 20.0, 40.0]
    task = NUMBER.fitted(targets)
    assert task.value_range == (10.0, 40.0)
    stacked = task.stack(targets)
    assert float(stacked.mean()) == pytest.approx(0, abs=1e-6)
    head = torch.nn.Linear(4, 1)
    states = torch.randn(5, 4)
    weight, bias = task.to_units(head.weight, head.bias)
    in_units = states @ weight.T + bias
    spread = float(np.std(targets))
    torch.testing.assert_close(in_units, head(states) * spread + float(np.mean(targets)))


def test_strata_of_a_regression_span_its_range() -> None:
    task = NUMBER.fitted([0.0, 8.0])
    assert task.strata([8.0, 0.0, 3.5], 0.5) == [(0,), (0,), (0,)]
    assert task.strata([float(i) for i in range(20)], 0.1) == [(i // 10,) for i in range(20)]


def test_baselines() -> None:
    majority = SINGLE.baseline([1, 1, 0], [1, 0, 0, 0])
    assert (majority.name, majority.values["accuracy"]) == ("majority (yes)", 0.25)
    common = MULTI.baseline([(), (), (1,), (1, 2)], [(1,), (1,), ()])
    assert (common.name, common.values["micro_f1"]) == ("majority (yes)", 0.8)
    mean = NUMBER.baseline([1.0, 3.0], [2.0, 4.0])
    assert mean.values == {"mae": 1.0, "rmse": math.sqrt(2)}


def test_the_same_answer_for_every_row_is_told() -> None:
    same, different = np.array([[1.0, -1, -1]] * 2), np.array([[1.0, -1, -1], [-1, 2.0, -1]])
    for task in (SINGLE, MULTI):
        assert "ignores the text" in (task.constant_warning(same.astype(np.float32)) or "")
        assert task.constant_warning(different.astype(np.float32)) is None
    assert "ignores the text" in (NUMBER.constant_warning(np.full((3, 1), 2.0, np.float32)) or "")
    assert NUMBER.constant_warning(np.array([[1.0], [2.0]], np.float32)) is None


def test_logits_that_are_no_numbers_score_nan() -> None:
    bad = np.array([[np.nan, 0, 0], [1, 0, 0]], dtype=np.float32)
    assert math.isnan(SINGLE.scores(bad, [0, 0])["accuracy"])
    assert math.isnan(MULTI.scores(bad, [(0,), (0,)])["micro_f1"])
    assert MULTI.calibrated(bad, [(0,), (0,)]).threshold == 0.5


def test_a_trained_head_brings_its_threshold_and_range() -> None:
    trained = HeadSpec("multi_label", LABELS, threshold=0.3)
    multi_label = TASKS["multi_label"].build(LABELS, Metric("micro_f1"), None, trained)
    assert multi_label.spec("mean").threshold == 0.3
    trained = HeadSpec("regression", ("y",), low=0.0, high=1.0)
    number = TASKS["regression"].build(("y",), Metric("mae"), None, trained).spec("mean")
    assert (number.low, number.high) == (0.0, 1.0)
    two = TASKS["single_sentence"].build(("a", "b"), Metric("f1", "a"), None)
    assert two.scores(np.eye(2, dtype=np.float32), [0, 1])["f1"]


def test_the_best_of_k_scores_is_the_choice() -> None:
    task = MultipleChoice(("choice",), Metric("accuracy"), ("first", "second"))
    scores = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]], dtype=np.float32)
    assert task.scores(scores, [0, 1, 1]) == {"accuracy": pytest.approx(2 / 3)}
    assert task.answers(scores) == ["first", "second", "first"]
    assert task.parse("second", Labels.of(task.places)) == 1
    assert task.baseline([1, 1, 0], [1, 0]).values == {"accuracy": 0.5}
    assert math.isnan(task.scores(np.full((2, 2), np.nan, np.float32), [0, 1])["accuracy"])
    assert "ignores the text" in (task.constant_warning(scores[:1].repeat(2, 0)) or "")
    spec = HeadSpec("multiple_choice", task.labels)
    assert [answer(spec, row).label for row in scores] == ["0", "1", "0"]


def test_a_mean_of_metrics_is_told_beside_its_parts() -> None:
    task = SingleLabel(("a", "b"), Metric("f1+accuracy", "b"), 1)
    values = task.scores(np.eye(2, dtype=np.float32), [0, 0])
    assert values["f1+accuracy"] == (values["f1"] + values["accuracy"]) / 2
    assert "f1+accuracy" in task.baseline([0, 1, 1], [0, 1]).values
    both = MultiLabel(LABELS, Metric("micro_f1+exact_match"))
    logits = np.array([[9.0, -9.0, -9.0]], dtype=np.float32)
    assert both.calibrated(logits, [(0,)]).threshold == 0.5
    assert both.baseline([(0,)], [(0,)]).values["micro_f1+exact_match"] == 1.0


def test_a_text_form_of_labels_and_of_numbers() -> None:
    inner = SingleLabel(("no", "yes"), Metric("accuracy"), 1)
    text = AsStrings(("0", "1"), inner.metric, inner)
    assert text.stack([1, 0]).tolist() == [1, 0]
    assert text.answers(np.array([[0.1, 0.2]], np.float32)) == ["1"]
    assert text.parse("yes", Labels.of(("no", "yes"))) == 1
    assert text.scores(np.eye(2, dtype=np.float32), [0, 1])["accuracy"] == 1.0
    number = AsStrings((), NUMBER.metric, NUMBER).fitted([0.0, 5.0])
    assert isinstance(number, AsStrings)
    assert (number.labels[0], number.labels[-1], len(number.labels)) == ("0.0", "5.0", 26)
    assert number.stack([2.5, 4.9]).tolist() == [12, 24]
    fixed = AsStrings((), NUMBER.metric, NUMBER, Scale(0.0, 5.0, 10)).fitted([1.0, 4.0])
    assert len(fixed.labels) == 51
    bad = np.full((2, 26), np.nan, np.float32)
    assert math.isnan(number.scores(bad, [0.0, 5.0])["pearson"])
