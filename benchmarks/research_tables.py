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


def difference(pairs: Sequence[tuple[float, float]]) -> str:
    """What the second of each pair has over the first, in points: mean and standard error over the pairs.

    "no difference" where nought is within two standard errors.
    """
    found = [100 * (b - a) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    if len(found) < 2:
        return "too few runs to tell"
    mean, error = statistics.fmean(found), statistics.stdev(found) / math.sqrt(len(found))
    told = f"{mean:+.1f} ± {error:.1f} points"
    return told if abs(mean) > 2 * error else f"{told} (no difference)"


def told(facts: Sequence[tuple[str, str]]) -> str:
    """A list of what was compared, and how it came out."""
    return "\n".join(f"- {what}: {how}" for what, how in facts) or not_measured()
