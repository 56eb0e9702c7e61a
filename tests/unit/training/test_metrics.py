"""Metric names out of prose, values against counts by hand, and what is never best."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from training.errors import ConfigError
from training.metrics.scores import (
    MULTI_LABEL,
    REGRESSION,
    SINGLE_LABEL,
    Measures,
    Metric,
    all_metrics,
    demand_metric,
    positive_class,
    read_metric,
    scores_of,
    single_label_scores,
)
from training.metrics.texts import FREE_TEXT

TWO, THREE = ("not_equivalent", "equivalent"), ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "kind", "labels", "expected"),
    [
        ('accuracy and F1 of the class "equivalent"', SINGLE_LABEL, TWO, Metric("accuracy")),
        ('F1 of the class "equivalent" (and accuracy)', SINGLE_LABEL, TWO, Metric("f1", "equivalent")),
        ('F1 of the class "not_equivalent"', SINGLE_LABEL, TWO, Metric("f1", "not_equivalent")),
        ("F1", SINGLE_LABEL, TWO, Metric("f1", "equivalent")),
        ("Matthews correlation", SINGLE_LABEL, TWO, Metric("matthews")),
        ("MCC", SINGLE_LABEL, TWO, Metric("matthews")),
        ("macro F1 (and accuracy)", SINGLE_LABEL, THREE, Metric("macro_f1")),
        ("accuracy and macro F1", SINGLE_LABEL, THREE, Metric("accuracy")),
        ("accuracy (majority class of validation: 56.3)", SINGLE_LABEL, TWO, Metric("accuracy")),
        ("Pearson and Spearman correlation", REGRESSION, ("y",), Metric("pearson_spearman")),
        ("Spearman correlation", REGRESSION, ("y",), Metric("spearman")),
        ("mean absolute error", REGRESSION, ("y",), Metric("mae")),
        ("micro-averaged F1", MULTI_LABEL, THREE, Metric("micro_f1")),
        ("F1", MULTI_LABEL, THREE, Metric("micro_f1")),
        ("macro_f1", MULTI_LABEL, THREE, Metric("macro_f1")),
        ("subset accuracy", MULTI_LABEL, THREE, Metric("exact_match")),
        ("accuracy", MULTI_LABEL, THREE, Metric("exact_match")),
        ("accuracy and F1", MULTI_LABEL, THREE, Metric("micro_f1")),
        ("macro F1, accuracy", MULTI_LABEL, THREE, Metric("macro_f1")),
        (None, SINGLE_LABEL, TWO, Metric("accuracy")),
        (None, MULTI_LABEL, THREE, Metric("micro_f1")),
        ("", REGRESSION, ("y",), Metric("pearson_spearman")),
    ],
)
def test_the_metric_that_prose_means(
    text: str | None, kind: Measures, labels: tuple[str, ...], expected: Metric
) -> None:
    assert read_metric(text, kind, labels) == (expected, None)


@pytest.mark.parametrize("text", ["balanced_accuracy", "balanced accuracy", "Balanced-Accuracy and F1"])
def test_a_metric_that_is_new_goes_by_its_own_name(text: str) -> None:
    values = {**SINGLE_LABEL.values, "balanced_accuracy": lambda truth, told: 1.0}
    known = replace(SINGLE_LABEL, values=values)
    assert read_metric(text, known, TWO) == (Metric("balanced_accuracy"), None)
    assert read_metric("accuracy, balanced accuracy", known, TWO) == (Metric("accuracy"), None)
    assert all_metrics(text, known, TWO).parts[0] == "balanced_accuracy"


def test_an_f1_of_no_class_is_told_and_where_it_was_asked_for_refused() -> None:
    assert read_metric("F1", SINGLE_LABEL, THREE) == (
        Metric("macro_f1"),
        "metric 'F1' names no class of 3; macro_f1 is used",
    )
    message = (
        f"metric is 'f1': of 3 labels it needs one, in quotes .'f1 of \"{THREE[0]}\"'.; or give macro_f1"
    )
    with pytest.raises(ConfigError, match=message):
        demand_metric("f1", SINGLE_LABEL, THREE)
    with pytest.raises(ConfigError, match="of 3 labels it needs one"):
        demand_metric("f1+accuracy", SINGLE_LABEL, THREE)
    assert demand_metric(f'f1 of "{THREE[2]}"', SINGLE_LABEL, THREE) == Metric("f1", THREE[2])
    assert demand_metric("f1", FREE_TEXT, ()) == Metric("f1")


def test_prose_that_is_not_understood_is_told() -> None:
    metric, note = read_metric("how nice it is", SINGLE_LABEL, TWO)
    assert metric == Metric("accuracy")
    assert note is not None
    assert "'how nice it is' was not understood" in note


def test_a_metric_that_was_asked_for_must_exist() -> None:
    assert demand_metric("rmse", REGRESSION, ("y",)) == Metric("rmse")
    with pytest.raises(
        ConfigError, match="metric is 'accuracy'; allowed for a regression task: pearson_spearman"
    ):
        demand_metric("accuracy", REGRESSION, ("y",))


def test_the_class_whose_f1_is_shown() -> None:
    assert positive_class('F1 of the class "not_equivalent"', TWO) == 0
    assert positive_class("accuracy", TWO) == 1
    assert positive_class("accuracy", THREE) is None


@pytest.mark.parametrize("name", ["accuracy", "rmse"])
def test_nan_is_never_best_and_anything_beats_nothing(name: str) -> None:
    metric = Metric(name)
    assert not metric.better(math.nan, None)
    assert not metric.better(math.nan, 0.0)
    assert metric.better(0.3, None)
    assert metric.better(0.5, 0.3) is metric.higher_is_better
    assert metric.better(0.1, 0.3) is not metric.higher_is_better
    assert not metric.better(0.3, 0.3)


def test_single_label_values_by_hand() -> None:
    truth, told = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])
    values = single_label_scores(truth, told, positive=1)
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["matthews"] == pytest.approx((2 * 1 - 1 * 1) / math.sqrt(3 * 3 * 2 * 2))


def test_one_class_alone_gives_no_warning_and_no_correlation() -> None:
    same = np.zeros(4, dtype=np.int64)
    assert single_label_scores(same, same, positive=1) == {
        "accuracy": 1,
        "macro_f1": 1,
        "matthews": 0,
        "f1": 0,
    }


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_values_of_one_label_are_those_of_the_library(pairs: list[tuple[int, int]]) -> None:
    truth, told = np.array(pairs).T
    values = single_label_scores(truth, told, positive=2)
    positive = sk.f1_score(truth == 2, told == 2, zero_division=0)
    assert values["f1"] == pytest.approx(positive, abs=1e-12)
    assert values["macro_f1"] == pytest.approx(sk.f1_score(truth, told, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class
        expected = sk.matthews_corrcoef(truth, told)
    assert values["matthews"] == pytest.approx(expected, abs=1e-12)


def test_multi_label_values_by_hand() -> None:
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    told = np.array([[1, 0], [1, 0], [0, 1]])
    values = scores_of(MULTI_LABEL, truth, told)
    assert values == pytest.approx({"micro_f1": 4 / 6, "macro_f1": 0.5, "exact_match": 1 / 3})


def test_the_quick_values_of_the_threshold_search_are_those_of_the_library() -> None:
    numbers = np.random.default_rng(0)
    for _ in range(20):
        truth, told = numbers.integers(0, 2, (9, 4)), numbers.integers(0, 2, (9, 4))
        truth[:, 3] = told[:, 3] = 0
        for name, value in scores_of(MULTI_LABEL, truth, told).items():
            assert MULTI_LABEL.values[name](truth, told) == pytest.approx(value)


def test_regression_values_by_hand_and_of_a_constant() -> None:
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    values = scores_of(REGRESSION, truth, np.array([1.0, 2.0, 3.0, 5.0]))
    assert values["spearman"] == pytest.approx(1.0)
    assert values["pearson_spearman"] == pytest.approx((values["pearson"] + 1) / 2)
    assert (values["mae"], values["rmse"]) == (0.25, 0.5)
    constant = scores_of(REGRESSION, truth, np.full(4, 2.5))
    assert math.isnan(constant["pearson"])
    assert constant["mae"] == 1.0
    assert math.isnan(scores_of(REGRESSION, truth, np.array([1.0, math.nan, 2.0, 3.0]))["pearson_spearman"])


@pytest.mark.parametrize(
    ("text", "kind", "labels", "expected"),
    [
        (
            'accuracy and F1 of the class "equivalent"',
            SINGLE_LABEL,
            TWO,
            Metric("accuracy+f1", "equivalent"),
        ),
        ("accuracy and macro F1", SINGLE_LABEL, THREE, Metric("accuracy+macro_f1")),
        ("Pearson and Spearman correlation", REGRESSION, ("y",), Metric("pearson_spearman")),
        ("Matthews correlation", SINGLE_LABEL, TWO, Metric("matthews")),
        ("nothing known", SINGLE_LABEL, TWO, Metric("accuracy")),
        (None, MULTI_LABEL, THREE, Metric("micro_f1")),
    ],
)
def test_all_metrics_that_prose_names(
    text: str | None, kind: Measures, labels: tuple[str, ...], expected: Metric
) -> None:
    assert all_metrics(text, kind, labels) == expected


def test_a_mean_may_be_asked_for() -> None:
    assert demand_metric("f1+accuracy", SINGLE_LABEL, TWO) == Metric("f1+accuracy", "equivalent")
    assert demand_metric("spearman+pearson", REGRESSION, ("y",)) == Metric("pearson_spearman")
    with pytest.raises(ConfigError, match="errors and scores have no common mean"):
        demand_metric("mae+pearson", REGRESSION, ("y",))
    with pytest.raises(ConfigError, match="metric is 'nonsense'"):
        demand_metric("accuracy+nonsense", SINGLE_LABEL, TWO)
    assert Metric("f1+accuracy").with_mean({"f1": 1.0}) == {"f1": 1.0}


def test_a_correlation_needs_two_values_on_either_side() -> None:
    rising, constant = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0])
    for truth, predicted in [(rising, constant), (constant, rising), (rising[:1], rising[1:2])]:
        found = scores_of(REGRESSION, truth, predicted)
        assert math.isnan(found["pearson"])
        assert math.isnan(found["spearman"])
        assert math.isnan(found["pearson_spearman"])
        assert math.isfinite(found["mae"])
    assert math.isnan(scores_of(REGRESSION, rising, np.array([1.0, np.inf, 3.0]))["pearson"])


def test_a_mean_is_added_where_all_its_parts_are() -> None:
    values = {"f1": 0.5, "accuracy": 0.7}
    assert Metric("f1").with_mean(dict(values)) == values
    assert Metric("f1+accuracy").with_mean(dict(values)) == values | {"f1+accuracy": pytest.approx(0.6)}
    assert Metric("f1+matthews").with_mean(dict(values)) == values
