"""The lab, read top to bottom: features once, the head, then arms by successive halving, then the choice.

A short trial trains a share of a full run's steps, with a schedule of its own length; one at full length is
the run that `train` would do, and is what is shipped. What each did is in the journal.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from training.errors import TrainingFailedError
from training.lab.arms import HEAD_ALONE, UPPER, Arm, arms_for
from training.lab.bench import Clock, LabBench
from training.lab.halving import Bench, halve, predicted, smallest_of_best
from training.lab.standings import Tried, standings_of
from training.lab.trial import Trial
from training.learning.refit import trains_again
from training.learning.search import Chosen
from training.learning.seed import SeedRun
from training.loop.journal import Journal
from training.report.leaderboard import Leaderboard

_AGAIN = 1.2
"""All rows are more than the train rows, and the head is fitted anew."""


def search(run: SeedRun, journal: Journal, seconds: float, clock: Clock = time.monotonic) -> Chosen:
    """The arm to ship, found within so many seconds.

    Raises:
        ConfigError: nothing fits the backbone. TrainingFailedError: no arm came to an end.
    """
    lab = LabBench(run, journal, seconds, clock)
    pace = lab.warm_up()
    arms = arms_for(run.config, layered=_is_layered(run))
    run.progress.begin("lab", 0)
    head = Arm(HEAD_ALONE)
    heads = {head: lab.measure(head, 1.0)} if lab.has_head else {}
    asked = _asked(lab, pace, heads)
    found = halve(arms, asked, lab.shares(arms[0]))
    finals, told = {**heads, **found.tried[1.0]}, []
    if not found.tried[1.0]:
        told.append(_too_short(lab.left(), predicted(arms[0], 1.0, asked, {}), heads))
    if not any(trial.rank for trial in finals.values()):
        finals = _first_that_works(lab, arms)
    winner = smallest_of_best(finals, lab.judge.worse_or_less_sure, lambda trial: trial.file_bytes)
    assert winner is not None, "a search without an end is refused before: this is a bug"
    run.progress.end("lab")
    tried: Tried = {**found.tried, 1.0: finals}
    board = _board(lab, tried, winner, found.num_untried, told)
    for sentence in board.told:
        run.progress.note(sentence)
    kept = {run.config.seed: lab.kept[winner]} if winner in lab.kept else {}
    return Chosen(_in_time(lab, winner, finals[winner]), kept, board)


def _in_time(lab: LabBench, winner: Arm, trial: Trial) -> SeedRun:
    """Its run; an adapter is not trained once more on all rows where the budget does not reach for that, and
    nobody asked for it: the head is."""
    run = lab.run_of(winner)
    if run.hyper.refit == "auto" and trains_again(run) and lab.left() < _AGAIN * trial.seconds:
        run.hyper = replace(run.hyper, refit="head")
    return run


def _asked(lab: LabBench, pace: float, heads: Mapping[Arm, Trial]) -> Bench[Arm, Trial]:
    """What successive halving asks; what follows the search is part of the time."""
    seeds = lab.run.config.seeds - 1
    after = seeds + _AGAIN * (trains_again(lab.run) and lab.has_head)
    fits_s = sum(trial.seconds for trial in heads.values())  # at a full length's end the head is fitted anew
    return Bench(lab.measure, lab.work, lab.left, lab.judge.worse, pace, fits_s, after, seeds)


def _is_layered(run: SeedRun) -> bool:
    """Whether the upper two thirds of the layers leave one out."""
    from modeling.methods.options import LAYER_PRESETS

    num_layers = 1 + max(tap.layer for tap in run.material.backbone.taps)
    return len(LAYER_PRESETS[UPPER](num_layers)) < num_layers


def _too_short(left: float, needed: float, heads: Mapping[Arm, Trial]) -> str:
    what = "the head alone is kept" if heads else "the first that works is trained, and takes longer"
    found = f"{max(0.0, left):.1f} s of the budget are left, and an adapter takes about {needed:.1f} s"
    return f"{found}: {what}; give a larger --budget"


def _first_that_works(lab: LabBench, arms: Sequence[Arm]) -> dict[Arm, Trial]:
    """Without a head there must be an adapter, however long it takes."""
    for arm in arms:
        trial = lab.measure(arm, 1.0)
        if trial.rank is not None:
            return {arm: trial}
    raise TrainingFailedError(f"none of {len(arms)} ways to train came to an end; the last: {trial.failed}")


def _board(lab: LabBench, tried: Tried, winner: Arm, num_untried: int, told: list[str]) -> Leaderboard:
    metric, num_rows = lab.run.material.task.metric.name, len(lab.run.material.validation)
    lines = standings_of(tried, winner, lab.judge)
    best, chosen = lines[0], next(line for line in lines if line.chosen)
    if best is not chosen:
        told.append(
            f"no difference between {best.method} ({metric} {best.value:.4f}) and {chosen.method} "
            f"({chosen.value:.4f}) on {num_rows:,} held-out rows: the smaller file is kept"
        )
    spent = lab.seconds - lab.left()
    return Leaderboard(metric, num_rows, lab.seconds, spent, num_untried, tuple(told), lines)
