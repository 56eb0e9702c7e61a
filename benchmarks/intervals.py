"""Means over seeds with their standard errors, and intervals of small samples. Numbers in, numbers out."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """The mean of some values, its standard error (NaN of a single one), and of how many."""

    value: float
    error: float
    count: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """By Student's t; both ends NaN of a single value."""
        if self.count < 2:
            return math.nan, math.nan
        from scipy import stats

        half = float(stats.t.ppf((1 + level) / 2, self.count - 1)) * self.error
        return self.value - half, self.value + half

    def shown(self, digits: int = 1, *, sign: bool = False) -> str:
        """`93.4 ± 0.3`; without the error where there is none."""
        value = f"{self.value:+.{digits}f}" if sign else f"{self.value:.{digits}f}"
        return value if math.isnan(self.error) else f"{value} ± {self.error:.{digits}f}"


def mean(values: Sequence[float]) -> Mean:
    """Of at least one value."""
    count = len(values)
    error = statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
    return Mean(statistics.fmean(values), error, count)


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Mean | None:
    """Of the differences on the seeds that both have; None where there is no such seed."""
    common = sorted(ours.keys() & theirs.keys())
    return mean([ours[seed] - theirs[seed] for seed in common]) if common else None
