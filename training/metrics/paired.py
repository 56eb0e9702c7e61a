"""Whether two ways of answering the same rows differ: paired bootstrap, sign flips, McNemar's exact test.

Pure: numbers in, numbers out; what a metric is and which direction is better is the caller's. A difference is
always the second minus the first. Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993),
chapter 13 (percentile interval) and 15 (permutation tests); McNemar, Psychometrika 12 (1947), in its exact
(binomial) form.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Score = Callable[[Ints], float]
"""The value of a metric on the rows with these numbers, some of them several times."""

SAMPLES = 2_000
LEVEL = 0.95
FEWEST_ROWS = 10
"""With fewer rows nothing is called a difference: resampling so few rows knows too little of all others."""
_DRAWS_AT_ONCE = 1_000_000
MCNEMAR, SIGN_FLIPS, BOOTSTRAP = "McNemar's exact test", "sign flips", "bootstrap"


@dataclass(frozen=True)
class Difference:
    """The second's metric minus the first's on `num_rows` rows, with its interval at `level`.

    `p_value` is two-sided, by the `test` that is named. A value that is not finite is a metric that some
    resample left undefined.
    """

    mean: float
    low: float
    high: float
    p_value: float
    test: str
    num_rows: int
    level: float = LEVEL

    @property
    def holds(self) -> bool:
        """Whether there is a difference: the interval leaves nought out, and the test agrees."""
        outside = self.low > 0 or self.high < 0  # False for what is not a number
        return outside and self.p_value < 1 - self.level and self.num_rows >= FEWEST_ROWS


@dataclass(frozen=True)
class Agreement:
    """How many rows both get right, one of them alone, or neither."""

    both: int
    only_first: int
    only_second: int
    neither: int


def paired_difference(
    first: Floats, second: Floats, *, samples: int = SAMPLES, level: float = LEVEL, seed: int = 0
) -> Difference:
    """Of metrics that are means over rows: each row's value by the first and by the second [N].

    Values of nought and one (right or wrong) are tested by McNemar's exact test, others by flipping signs.

    Raises:
        ValueError: no rows, or not the same rows.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"values of the same rows [N], N > 0; got {first.shape} and {second.shape}")
    change = second.astype(np.float64) - first
    means = np.concatenate([change[rows].mean(axis=1) for rows in _draws(len(change), samples, seed)])
    low, high = _interval(means, level)
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        test, p_value = MCNEMAR, mcnemar(int((change < 0).sum()), int((change > 0).sum()))
    else:
        test, p_value = SIGN_FLIPS, _sign_flips(change, samples, seed)
    return Difference(float(change.mean()), low, high, p_value, test, len(change), level)


def paired_score_difference(
    first: Score, second: Score, num_rows: int, *, samples: int = SAMPLES, level: float = LEVEL, seed: int = 0
) -> Difference:
    """Of any metric (an F1, a correlation): both scores on the same resampled rows.

    Raises:
        ValueError: no rows.
    """
    if num_rows < 1:
        raise ValueError("no rows to compare")
    whole = np.arange(num_rows)
    found = np.array(
        [second(rows) - first(rows) for draws in _draws(num_rows, samples, seed) for rows in draws]
    )
    low, high = _interval(found, level)
    less, more = int((found <= 0).sum()), int((found >= 0).sum())
    p_value = min(1.0, 2 * (min(less, more) + 1) / (samples + 1))
    return Difference(second(whole) - first(whole), low, high, p_value, BOOTSTRAP, num_rows, level)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of so many rows that one alone gets right, if each were as likely the other's."""
    from scipy.stats import binomtest

    rows = only_first + only_second
    return float(binomtest(only_first, rows, 0.5).pvalue) if rows else 1.0


def agreement_of(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Agreement:
    """Of rows [N] that the first and the second get right."""
    both, either = int((first & second).sum()), int((first | second).sum())
    return Agreement(both, int(first.sum()) - both, int(second.sum()) - both, len(first) - either)


def _draws(num_rows: int, samples: int, seed: int) -> Iterator[Ints]:
    """`samples` draws of all rows with replacement, [some, N] at a time."""
    random, left = np.random.default_rng(seed), samples
    while left:
        some = min(left, max(1, _DRAWS_AT_ONCE // num_rows))
        yield random.integers(0, num_rows, size=(some, num_rows))
        left -= some


def _interval(values: Floats, level: float) -> tuple[float, float]:
    """The middle `level` of the resampled values; NaN where a value is."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sign_flips(change: Floats, samples: int, seed: int) -> float:
    """How often signs drawn by a coin give a mean at least as far from nought (the own signs counted)."""
    random, seen, far = np.random.default_rng(seed), 1, 1
    moved = change[change != 0]
    reached = abs(moved.sum()) * (1 - 1e-12)  # sums of the same numbers in another order
    while seen <= samples:
        some = min(samples + 1 - seen, max(1, _DRAWS_AT_ONCE // max(1, len(moved))))
        signs = random.integers(0, 2, size=(some, len(moved))) * 2 - 1
        far += int((np.abs(signs @ moved) >= reached).sum())
        seen += some
    return far / seen
