"""The seam between a run and whatever chooses its method; a search itself is `training/lab`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from training.learning.seed import SeedRun
from training.loop.journal import Journal
from training.report.leaderboard import Leaderboard
from training.report.result import SeedOutcome


@dataclass(frozen=True)
class Chosen:
    """The run with the method that won, those of its seeds that are trained already, and what was tried (None
    without a search)."""

    run: SeedRun
    trained: Mapping[int, SeedOutcome]
    leaderboard: Leaderboard | None


Search = Callable[[SeedRun, Journal, float], Chosen]
"""`search(run, journal, seconds)`: the method of `run` is a place holder, `journal` keeps what was tried."""
