"""What a search tried, as a person and a manifest read it: one line for each arm. No work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """One arm: what was trained, how long, what it reached on the held-out rows.

    `share` is the part of a full run's steps that it had (1: all), `error` the standard error of `value`.
    `difference` to the best, with its interval, is of the same rows, and of equal shares where the best has
    such; None for the best itself, and for what failed (`failed` says why). `apart`: the difference holds.
    """

    method: str
    lr: float | None
    layers: str | None
    share: float
    value: float | None
    error: float | None
    difference: float | None
    interval: tuple[float, float] | None
    apart: bool
    num_parameters: int
    file_bytes: int
    seconds: float
    chosen: bool
    failed: str | None = None


@dataclass(frozen=True)
class Leaderboard:
    """All arms that were tried, the best first; `num_untried` had no time. Times in seconds."""

    metric: str
    num_rows: int
    budget_s: float
    spent_s: float
    num_untried: int
    told: tuple[str, ...]
    standings: tuple[Standing, ...]
