"""How the research scripts write numbers of several seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import Any


def not_measured() -> str:
    """In place of a table without results."""
    return "Not measured yet."


def by_seed(found: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The records whose key is the prefix and a seed, by seed."""
    own = [(key.rpartition("/"), value) for key, value in found.items()]
    return [value for (start, _, seed), value in sorted(own, key=lambda one: one[0]) if start == prefix]


def mean_and_spread(values: Sequence[float], factor: float = 100, digits: int = 1) -> str:
    """Mean and standard deviation over seeds, scores x 100; the mean alone of one seed."""
    finite = [factor * value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    mean = f"{statistics.fmean(finite):.{digits}f}"
    return mean if len(finite) < 2 else f"{mean} ± {statistics.stdev(finite):.{digits}f}"
