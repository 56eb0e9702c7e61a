"""Whether scores are probabilities, and what makes them so: reliability, a temperature, a threshold.

Pure: numbers in, numbers out. Sources: Guo et al., On Calibration of Modern Neural Networks (2017): expected
calibration error over bins of equal width (equation 3) and temperature scaling (section 4.2); Geifman and
El-Yaniv, Selective Classification for Deep Neural Networks (2017): a threshold by an exact binomial bound.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NUM_BINS = 15
FEWEST_ROWS = 30
"""No temperature is fitted on fewer."""
COOLEST, WARMEST = 0.1, 10.0
_PRIOR_ROWS = 2.0
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Confidence:
    """Scores [M] that say how likely something is, and whether it is so [M].

    Of one label for a row these are the answers; of several labels, every label of every row.
    """

    scores: Floats
    hits: Bools


@dataclass(frozen=True)
class Bin:
    """Scores between two bounds: how many, their mean, and the share of hits."""

    low: float
    high: float
    count: int
    score: float
    share: float


@dataclass(frozen=True)
class Threshold:
    """From `value` on an answer is given: to the share `coverage` of rows, of which `error` are wrong.

    `bound` is a one-sided upper bound (95 %) of that error by Clopper and Pearson; 1 when no row is answered.
    """

    value: float
    coverage: float
    error: float
    bound: float


def reliability(found: Confidence, num_bins: int = NUM_BINS) -> list[Bin]:
    """The bins of equal width that hold something, from nought to one; a score of one is in the last."""
    places = np.clip((found.scores * num_bins).astype(int), 0, num_bins - 1)
    bins = []
    for place in np.unique(places).tolist():
        inside = places == place
        score, share = float(found.scores[inside].mean()), float(found.hits[inside].mean())
        bins.append(Bin(place / num_bins, (place + 1) / num_bins, int(inside.sum()), score, share))
    return bins


def calibration_error(found: Confidence) -> float:
    """Expected calibration error: how far mean score and share of hits are apart, weighed by count."""
    total = len(found.scores)
    return sum(one.count / total * abs(one.score - one.share) for one in reliability(found)) if total else 0.0


def fit_temperature(loss: Callable[[float], float], num_rows: int) -> float:
    """The temperature with the least mean log loss; `loss` is that of logits times a number.

    The loss is convex in the number 1 / T. A Gamma prior with its mode at 1, worth two rows, keeps rows that
    are all right from an infinite one; the result is never worse than 1 on these rows. Between 0.1 and 10.
    """
    from scipy.optimize import minimize_scalar

    def objective(sharpness: float) -> float:
        return num_rows * loss(sharpness) + _PRIOR_ROWS * (sharpness - 1 - math.log(sharpness))

    found = minimize_scalar(objective, bounds=(1 / WARMEST, 1 / COOLEST), method="bounded")
    best = min((float(found.x), 1 / WARMEST, 1 / COOLEST, 1.0), key=objective)
    return 1 / best


def choose_threshold(scores: Floats, right: Bools, target_error: float) -> Threshold:
    """The lowest score from which on the bound of the error is at most `target_error`.

    Where too few rows are held out for the bound: the lowest from which on the measured error is. Where that
    cannot be either, 1.0: no row is answered.
    """
    from scipy.stats import beta

    order = np.argsort(-scores, kind="stable")
    ranked, wrong = scores[order], np.cumsum(~right[order])
    counts = np.arange(1, len(scores) + 1)
    last = np.append(ranked[1:] < ranked[:-1], True)  # rows of one score are answered together
    bounds = np.where(wrong < counts, beta.ppf(_CONFIDENCE, wrong + 1, np.maximum(counts - wrong, 1)), 1.0)
    for passes in (bounds <= target_error, wrong / counts <= target_error):
        kept = np.flatnonzero(passes & last)
        if len(kept):
            place = int(kept[-1])
            below = ranked[place + 1] if place + 1 < len(ranked) else ranked[place] - 1e-6
            share = float(counts[place] / len(scores))
            error, bound = float(wrong[place] / counts[place]), float(bounds[place])
            return Threshold(float((ranked[place] + below) / 2), share, error, bound)
    return Threshold(1.0, 0.0, 0.0, 1.0)
