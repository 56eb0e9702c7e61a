"""Successive halving within a time: many arms for a short while, the best of them longer, few to the end.

Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS
2016, arXiv 1502.07943: each round gets as much of the time as every other, and a third goes on. Beyond it:
an arm whose paired difference to the best holds does not go on, and nothing is begun that would not leave
the time to train one arm to its end. The first at full length needs no time behind it: what follows the
search is then left out. A clock, numbers and order; no tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Generic, Protocol, TypeVar

SHARES = (1 / 9, 1 / 3, 1.0)
_GO_ON = 1 / 3

A = TypeVar("A", bound=object)
T = TypeVar("T", bound="Timed")


class Timed(Protocol):
    """What an arm did: `seconds` for `work`; without a `rank` it failed. A higher rank is better."""

    @property
    def seconds(self) -> float: ...
    @property
    def work(self) -> float: ...
    @property
    def rank(self) -> tuple[float, float] | None: ...


@dataclass(frozen=True)
class Bench(Generic[A, T]):
    """What a search asks: `measure(arm, share)` trains, `work(arm, share)` is what that takes, in any unit,
    `left()` the seconds there are, `worse(one, other)` whether `other` is worse for certain.

    `pace`: seconds for a unit of work before any arm was tried; `at_end_s`: what a full length takes beside
    its work. `after`: full lengths of the chosen arm that follow the search (other seeds, all rows), of which
    `must` cannot be left out.
    """

    measure: Callable[[A, float], T]
    work: Callable[[A, float], float]
    left: Callable[[], float]
    worse: Callable[[T, T], bool]
    pace: float
    at_end_s: float = 0.0
    after: float = 0.0
    must: float = 0.0


@dataclass(frozen=True)
class Halved(Generic[A, T]):
    """By share: what was tried, in that order; and how many arms had no time."""

    tried: Mapping[float, Mapping[A, T]]
    num_untried: int


def halve(arms: Sequence[A], bench: Bench[A, T], shares: Sequence[float] = SHARES) -> Halved[A, T]:
    """Try arms at growing shares of their full length; `shares` end with 1."""
    tried: dict[float, dict[A, T]] = {share: {} for share in shares}
    latest: dict[A, T] = {}
    going = list(arms)
    for place, share in enumerate(shares):
        until = bench.left() * (1 - 1 / (len(shares) - place))
        for arm in going:
            ends = [trial.seconds for trial in tried[1.0].values()]
            if _has_time(arm, share, bench, latest, until, ends):
                latest[arm] = tried[share][arm] = bench.measure(arm, share)
        if tried[share]:
            going = survivors(tried[share], bench.worse, max(1, ceil(_GO_ON * len(going))))
    return Halved(tried, len(arms) - len(latest))


def _has_time(
    arm: A, share: float, bench: Bench[A, T], latest: Mapping[A, T], until: float, ends: Sequence[float]
) -> bool:
    """Whether an arm ends before so many seconds are left, and one full length fits in behind it with what
    follows the search; at full length with what must follow those that came to their `ends`, too."""
    seconds = predicted(arm, share, bench, latest)
    full = predicted(arm, 1.0, bench, latest)
    if share < 1:
        return bench.left() - seconds >= max(until, full * (1 + bench.after))
    follows = bench.after if ends else bench.must
    return bench.left() - seconds >= max(full * follows, *(end * bench.must for end in ends), 0.0)


def predicted(arm: A, share: float, bench: Bench[A, T], latest: Mapping[A, T]) -> float:
    """Seconds: by the arm's own pace as it was last, else the slowest other's, else the first guess."""
    paces = {other: t.seconds / t.work for other, t in latest.items() if t.rank is not None and t.work > 0}
    pace = paces.get(arm, max(paces.values(), default=bench.pace))
    return pace * bench.work(arm, share) + (bench.at_end_s if share == 1 else 0.0)


def survivors(found: Mapping[A, T], worse: Callable[[T, T], bool], most: int) -> list[A]:
    """The best, and those behind it that are not worse for certain, `most` in all; best first."""
    order = ranked(found)
    if not order:
        return []
    best = found[order[0]]
    return [order[0], *(arm for arm in order[1:most] if not worse(best, found[arm]))]


def ranked(found: Mapping[A, T]) -> list[A]:
    """Arms that did not fail, the best first, equals as they came."""
    ranks = {arm: t.rank for arm, t in found.items()}
    known = {arm: rank for arm, rank in ranks.items() if rank is not None}
    return sorted(known, key=lambda arm: known[arm], reverse=True)


def smallest_of_best(
    found: Mapping[A, T], worse: Callable[[T, T], bool], size: Callable[[T], int]
) -> A | None:
    """Of all that are not worse than the best for certain, the one with the smallest file."""
    order = ranked(found)
    if not order:
        return None
    equal = [arm for arm in order if arm is order[0] or not worse(found[order[0]], found[arm])]
    return min(equal, key=lambda arm: (size(found[arm]), order.index(arm)))
