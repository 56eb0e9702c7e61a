"""Paired comparisons against scipy's own, closed forms and the rate of false alarms."""

import numpy as np
import pytest
from scipy import stats

from training.metrics.paired import (
    FEWEST_ROWS,
    MCNEMAR,
    SIGN_FLIPS,
    Agreement,
    agreement_of,
    mcnemar,
    paired_difference,
    paired_score_difference,
)


def test_the_interval_is_that_of_the_library() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(size=200), random.normal(0.1, size=200)
    found = paired_difference(first, second, samples=20_000)
    theirs = stats.bootstrap(
        (second - first,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.mean == pytest.approx(second.mean() - first.mean())
    assert [found.low, found.high] == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_sign_flips_give_the_p_value_of_the_library() -> None:
    random = np.random.default_rng(4)
    first, second = random.normal(size=40), random.normal(0.4, size=40)
    found = paired_difference(first, second, samples=20_000)
    theirs = stats.permutation_test(
        (second, first),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    assert found.test == SIGN_FLIPS
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.01)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"), [(0, 0, 1), (0, 5, 2 / 32), (1, 9, 0.021484375)]
)
def test_mcnemar_is_the_binomial_in_closed_form(only_first: int, only_second: int, p_value: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p_value)
    assert mcnemar(only_second, only_first) == pytest.approx(p_value)


def test_right_and_wrong_rows_are_tested_by_mcnemar() -> None:
    first, second = np.array([1.0] * 30 + [0.0] * 20), np.array([1.0] * 29 + [0.0] * 6 + [1.0] * 15)
    found = paired_difference(first, second)
    assert found.test == MCNEMAR
    assert found.p_value == mcnemar(1, 15)
    assert found.holds
    assert agreement_of(first > 0, second > 0) == Agreement(29, 1, 15, 5)


def test_equal_answers_are_no_difference() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = paired_difference(values, values)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert not found.holds


def test_a_few_rows_are_never_a_difference() -> None:
    few = FEWEST_ROWS - 1
    assert not paired_difference(np.zeros(few), np.ones(few)).holds
    assert paired_difference(np.zeros(FEWEST_ROWS), np.ones(FEWEST_ROWS)).holds


def test_a_metric_that_is_no_mean_is_resampled_by_rows() -> None:
    """Of a mean, both forms give the same interval: the same rows are drawn."""
    random = np.random.default_rng(5)
    first, second = random.normal(size=50), random.normal(0.5, size=50)
    by_rows = paired_difference(first, second, samples=500, seed=7)
    by_score = paired_score_difference(
        lambda rows: float(first[rows].mean()),
        lambda rows: float(second[rows].mean()),
        50,
        samples=500,
        seed=7,
    )
    assert (by_score.mean, by_score.low, by_score.high) == pytest.approx(
        (by_rows.mean, by_rows.low, by_rows.high)
    )


def test_an_interval_alone_is_no_difference() -> None:
    """Five rows of a hundred one way: resampling leaves nought out, the exact test says 2 in 32."""
    found = paired_difference(np.zeros(100), np.array([1.0] * 5 + [0.0] * 95))
    assert found.low > 0
    assert found.p_value == pytest.approx(2 / 32)
    assert not found.holds


def test_an_undefined_resample_is_no_difference() -> None:
    found = paired_score_difference(lambda _: float("nan"), lambda _: 1.0, 20, samples=10)
    assert np.isnan(found.low)
    assert not found.holds


def test_the_same_seed_gives_the_same_interval() -> None:
    random = np.random.default_rng(6)
    first, second = random.normal(size=2_000), random.normal(size=2_000)
    assert paired_difference(first, second, seed=1) == paired_difference(first, second, seed=1)
    assert paired_difference(first, second, seed=1) != paired_difference(first, second, seed=2)


@pytest.mark.parametrize("num_rows", [20, 200])
def test_false_alarms_are_as_rare_as_the_level_says(num_rows: int) -> None:
    """Two learners that are equally good, over 400 draws of rows: about one in twenty, not more."""
    random = np.random.default_rng(8)
    alarms = 0
    for _ in range(400):
        first, second = (random.random(num_rows) < 0.8 for _ in range(2))
        alarms += paired_difference(first.astype(float), second.astype(float), samples=400).holds
    assert alarms <= 30


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 4)])
def test_rows_must_be_the_same(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="same rows"):
        paired_difference(np.zeros(first), np.zeros(second))
