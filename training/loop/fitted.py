"""A head fitted on what a backbone gives: the strength of its decay by cross-validation, then on all rows.

The same for every kind with a head (its loss is convex in the logits): softmax, several labels, numbers,
choices, words. `C` is scikit-learn's, on states scaled to a mean square length of one.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modeling import HeadSpec, Readout, Wanted
from training.errors import TrainingFailedError
from training.loop.convex import Fits, Loss, Rotated, minimise
from training.loop.states import States

FOLDS = 5
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_PATIENCE = 2  # strengths without a smaller loss, after which weaker decay is not tried
_FEW = 200_000  # rows times labels up to which every fold is fitted for every strength
_WITHOUT = 10.0  # for rows too few to hold one out
_COARSE, _FINE = 1e-3, 1e-4


@dataclass(frozen=True)
class HeadFit:
    """A head [L, F], [L] on all rows given, and what the choice of its decay found.

    `C`: the chosen strength. `out_of_fold`: logits [N, P] of each row by a head that has not seen it; None
    where too few folds were fitted. `loss`: the mean loss of all rows, fitted; `held_out_loss` that of rows
    which were left out, under the chosen strength (None where the strength was given).
    """

    weight: Tensor
    bias: Tensor
    C: float
    loss: float
    out_of_fold: Tensor | None
    held_out_loss: float | None = None

    def put_into(self, head: nn.Linear) -> None:
        with torch.no_grad():
            head.weight.copy_(self.weight)
            head.bias.copy_(self.bias)


@dataclass(frozen=True)
class Sample:
    """What a head is fitted on: the states of rows, what they should be answered, and which are alike.

    `strata` [N]: rows of one stratum are shared out evenly among the folds.
    """

    readout: Readout
    spec: HeadSpec
    states: States
    wanted: Wanted
    strata: Sequence[Hashable]

    def loss_of(self, rows: Sequence[int]) -> Loss:
        """Logits [M, L] of all states -> the mean loss of these rows."""
        index, wanted = torch.as_tensor(rows), self.wanted.take(rows)

        def loss(logits: Tensor) -> Tensor:
            return self.readout.measured_loss(self.spec, self.states.by_row(logits)[index], wanted)

        return loss


def fit_head(
    sample: Sample,
    num_logits: int,
    *,
    strength: float | None = None,
    seed: int = 0,
    every_row: bool = False,
) -> HeadFit:
    """The head of a sample, on the CPU; `strength` (C) is chosen by cross-validation unless it is given.

    With `every_row`, each gets logits of a head that has not seen it, however many rows there are.

    Raises:
        TrainingFailedError: states are not finite.
    """
    _check_finite(sample.states.values)
    states = Rotated.of(sample.states.values)
    size = float(sample.states.values.square().sum(1).mean()) or 1.0
    num_rows = len(sample.states)
    everything = sample.loss_of(range(num_rows))

    def l2(C: float) -> float:
        return size / (C * num_rows)

    out_of_fold, held_out, start = None, None, Fits.zero(1, num_logits, states)
    if strength is None and num_rows > 1:
        found = _cross_validate(sample, states, num_logits, [l2(C) for C in _STRENGTHS], seed)
        strength, out_of_fold, held_out = _STRENGTHS[found.chosen], found.logits, found.loss
        if every_row and out_of_fold is None:
            out_of_fold = _of_every_row(sample, states, num_logits, l2(strength), found.fits, seed)
        start = Fits(found.fits.weight.mean(0, keepdim=True), found.fits.bias.mean(0, keepdim=True))
    strength = strength or _WITHOUT
    fits = minimise(states, [everything], l2(strength), start, _FINE)
    loss = float(everything(fits.logits(states.z)[0]))
    return HeadFit(*states.unfold(fits.weight[0], fits.bias[0]), strength, loss, out_of_fold, held_out)


def _check_finite(values: Tensor) -> None:
    broken = int((~values.isfinite()).any(dim=1).sum())
    if broken:
        raise TrainingFailedError(
            f"stage head: {broken} of {len(values)} states of the train rows are not finite: the backbone's "
            "number format is too narrow for them, or its weights are broken; choose another backbone"
        )


@dataclass(frozen=True)
class _Found:
    chosen: int
    fits: Fits
    logits: Tensor | None
    loss: float


def _cross_validate(
    sample: Sample, states: Rotated, num_logits: int, decays: Sequence[float], seed: int
) -> _Found:
    """The decay under which rows that were left out have the smallest mean loss; from strong to weak."""
    num_rows = len(sample.states)
    folds = deal(sample.strata, min(FOLDS, num_rows), seed)
    held = folds if num_rows * num_logits <= _FEW else folds[:1]
    rest = [sorted(set(range(num_rows)).difference(rows)) for rows in held]
    losses, judges = [sample.loss_of(rows) for rows in rest], [sample.loss_of(rows) for rows in held]
    shares = [len(rows) / sum(map(len, held)) for rows in held]
    fits, best, best_loss = Fits.zero(len(held), num_logits, states), None, float("inf")
    for number, decay in enumerate(decays):
        fits = minimise(states, losses, decay, fits, _COARSE)
        found = fits.logits(states.z)
        scored = zip(shares, judges, found, strict=True)
        loss = sum(share * float(judge(logits)) for share, judge, logits in scored)
        if loss < best_loss:
            best, best_loss = _Found(number, fits, _left_out(sample, found, held), loss), loss
        elif best is not None and number - best.chosen >= _PATIENCE:
            break
    assert best is not None, "a loss was not finite: this is a bug"
    return best


def _of_every_row(
    sample: Sample, states: Rotated, num_logits: int, decay: float, near: Fits, seed: int
) -> Tensor | None:
    """Logits [N, P] of heads with this decay that have not seen the row, one fold after the other."""
    num_rows = len(sample.states)
    folds = deal(sample.strata, min(FOLDS, num_rows), seed)
    found = []
    for rows in folds:
        seen = sample.loss_of(sorted(set(range(num_rows)).difference(rows)))
        found.append(minimise(states, [seen], decay, near, _COARSE).logits(states.z)[0])
    return _left_out(sample, torch.stack(found), folds)


def _left_out(sample: Sample, found: Tensor, held: Sequence[Sequence[int]]) -> Tensor | None:
    """Each row's logits [N, P] by the fit that has not seen it, out of found [folds, M, L]."""
    if sum(map(len, held)) < len(sample.states):
        return None
    by_row = [sample.states.by_row(logits) for logits in found]
    out = torch.empty_like(by_row[0])
    for logits, rows in zip(by_row, held, strict=True):
        out[torch.as_tensor(rows)] = logits[torch.as_tensor(rows)]
    return out


def deal(strata: Sequence[Hashable], num_folds: int, seed: int) -> list[list[int]]:
    """Row numbers in `num_folds` lists: those of a stratum take turns, in an order from the seed."""
    order = torch.randperm(len(strata), generator=torch.Generator().manual_seed(seed)).tolist()
    places: dict[Hashable, int] = {}
    for stratum in strata:
        places.setdefault(stratum, len(places))
    order.sort(key=lambda row: places[strata[row]])
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for turn, row in enumerate(order):
        folds[turn % num_folds].append(row)
    return folds
