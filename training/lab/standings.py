"""Trials as the lines of a leaderboard: the best first, each beside the best one on equal terms."""

import math
from collections.abc import Mapping

from training.lab.arms import Arm
from training.lab.halving import ranked
from training.lab.trial import Judge, Trial
from training.report.leaderboard import Standing

Tried = Mapping[float, Mapping[Arm, Trial]]
"""By share of a full run."""


def standings_of(tried: Tried, chosen: Arm, judge: Judge) -> tuple[Standing, ...]:
    """A line for each arm, as it was last: longer trials before shorter ones, failed ones at the end."""
    best = ranked(tried[1.0])[0]
    done: set[Arm] = set()
    lines = []
    for share in sorted(tried, reverse=True):
        new = {arm: trial for arm, trial in tried[share].items() if arm not in done}
        reference = tried[share].get(best, tried[1.0][best])
        for arm in ranked(new):
            lines.append(_standing(arm, share, new[arm], reference, judge, chosen=arm == chosen))
        done |= set(new)
    failed = {arm: (share, t) for share in tried for arm, t in tried[share].items() if t.rank is None}
    return (*lines, *(_failed(arm, share, trial) for arm, (share, trial) in failed.items()))


def _standing(arm: Arm, share: float, trial: Trial, best: Trial, judge: Judge, *, chosen: bool) -> Standing:
    found = None if trial is best else judge.difference(best, trial)
    return Standing(
        method=arm.method,
        lr=arm.lr,
        layers=arm.layers,
        share=share,
        value=trial.value,
        error=_finite(judge.error(trial)),
        difference=None if found is None else _finite(found.mean),
        interval=None if found is None or not math.isfinite(found.low) else (found.low, found.high),
        apart=trial is not best and judge.worse_or_less_sure(best, trial),
        num_parameters=trial.num_parameters,
        file_bytes=trial.file_bytes,
        seconds=trial.seconds,
        chosen=chosen,
    )


def _failed(arm: Arm, share: float, trial: Trial) -> Standing:
    why = trial.failed or "its metric is not a number"
    nothing = (None, None, None, None, False, 0, 0)
    return Standing(arm.method, arm.lr, arm.layers, share, *nothing, trial.seconds, chosen=False, failed=why)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
