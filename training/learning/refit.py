"""What was chosen, trained once more with the rows that chose it, where these were held out of train rows.

The numbers that are told stay those of the run before: they are of rows that it had not seen.
"""

from dataclasses import replace

import torch

from training.learning.material import prepare
from training.learning.seed import SeedRun, fitted_head
from training.loop.fit import StagePlan
from training.loop.journal import NoJournal
from training.loop.stages import Features
from training.loop.states import States
from training.report.result import SeedOutcome

_FEW_ROWS = 500


def on_all_rows(run: SeedRun, best: SeedOutcome, plan: StagePlan | None) -> SeedOutcome:
    """The best seed with its adapter and head, or its head alone, trained on all rows."""
    what = _what(run, best)
    if what == "none":
        return best
    everything = replace(run.data.train, examples=run.data.train.examples + run.data.validation.examples)
    data = replace(run.data, train=everything)
    backbone, virtual = run.material.backbone, run.method.virtual_tokens
    material, _ = prepare(run.config, run.hyper, data, backbone, virtual=virtual)
    again = replace(run, data=data, material=material, features=None, below=None, judges=False, heads={})
    if what == "head":
        return _head_again(again, best, run.features)
    assert plan is not None, "an adapter without stage two: this is a bug"
    assert best.body is not None, "an adapter without stage two: this is a bug"
    assert best.fitted is not None, "without a head nothing is trained again: this is a bug"
    kept = best.fitted_again
    again.strengths = best.fitted.C, None if kept is None else kept.C
    again.hyper = replace(run.hyper, refit="none" if kept is None else "head")
    adapter = again.create(best.seed)
    epochs = best.body.best_epoch  # fewer than were planned where patience stopped it: that state was chosen
    again.run(adapter, replace(plan, epochs=epochs, every=epochs, patience=None), best.seed, NoJournal())
    return replace(best, adapter=adapter, on_all_rows=True)


def _what(run: SeedRun, best: SeedOutcome) -> str:
    """`all`, `head` or `none`."""
    asked = run.hyper.refit
    if not run.data.drawn or asked == "none" or best.fitted is None or run.config.recipe is not None:
        return "none"
    has_body = best.adapter.num_body_parameters > 0
    learnt = has_body and best.body is not None and best.body.best_epoch > 0
    if learnt and trains_again(run):
        return "all"
    kept_as_trained = has_body and best.fitted_again is None
    return "none" if kept_as_trained else "head"


def trains_again(run: SeedRun) -> bool:
    """Whether an adapter of this run is trained a second time, on all rows."""
    few = len(run.data.train) + len(run.data.validation) <= _FEW_ROWS
    asked = run.hyper.refit
    return run.data.drawn and (asked == "all" or (asked == "auto" and few))


def _head_again(again: SeedRun, best: SeedOutcome, frozen: Features | None) -> SeedOutcome:
    """With the head fitted on the states of all rows, with as much decay."""
    features, fitted = best.adapted or frozen, best.fitted_again or best.fitted
    assert features is not None, "a head without features: this is a bug"
    assert fitted is not None, "a head that was not fitted: this is a bug"
    assert best.adapter.head is not None, "no head: this is a bug"
    strata = again.data.task.strata(again.data.train.targets)
    found = fitted_head(again.material, _joined(features), strata, fitted.C, best.seed)
    found.put_into(best.adapter.head)
    return replace(best, on_all_rows=True)


def _joined(features: Features) -> States:
    parts = features.train, features.validation
    return States(torch.cat([p.values for p in parts]), torch.cat([p.counts for p in parts]))


def told(best: SeedOutcome, num_rows: int) -> str:
    """A sentence about what the file holds."""
    what = "the head" if best.adapted is not None or best.adapter.num_body_parameters == 0 else "it"
    return (
        f"scores are of held-out rows; then {what} was trained again on all {num_rows:,} rows, so that none "
        "is lost (--refit none leaves that out)"
    )
