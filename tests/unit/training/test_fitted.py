"""The convex head beside scikit-learn's, its cross-validation by brute force, and the search's scale."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from modeling import HeadSpec, Wanted, readout_of
from training.errors import TrainingFailedError
from training.loop import fitted
from training.loop.convex import Fits, Loss, Rotated, curvature, minimise
from training.loop.fitted import _STRENGTHS, FOLDS, HeadFit, Sample, deal, fit_head
from training.loop.states import States

LABELS = ("a", "b", "c")
ROWS, WIDTH = 90, 6


def drawn(count: int = ROWS, *, seed: int = 0) -> Tensor:
    """States with a mean that is not nought and directions of very different spread [N, F]."""
    made = torch.Generator().manual_seed(seed)
    spread = torch.tensor([3.0, 1.0, 1.0, 0.3, 0.1, 0.0])
    return torch.randn(count, WIDTH, generator=made) * spread + torch.tensor([5.0, 0, -2, 0, 1, 1])


def classes(states: Tensor, *, noise: float = 1.0, seed: int = 1) -> Tensor:
    """Labels [N] that a head finds but for the noise, none of them rare."""
    made = torch.Generator().manual_seed(seed)
    logits = (states - states.mean(0)) @ torch.randn(WIDTH, 3, generator=made)
    return (logits + noise * torch.randn(logits.shape, generator=made)).argmax(1)


def sample_of(
    kind: str,
    values: Tensor,
    targets: Tensor,
    *,
    counts: Tensor | None = None,
    labels: tuple[str, ...] = LABELS,
    weights: Tensor | None = None,
) -> Sample:
    spec = HeadSpec(kind, labels, "first")
    counts = torch.ones(len(values), dtype=torch.int64) if counts is None else counts
    strata = targets.tolist() if targets.ndim == 1 else [0] * len(targets)
    return Sample(readout_of(spec), spec, States(values, counts), Wanted(targets, weights), strata)


def size_of(values: Tensor) -> float:
    return float(values.square().sum(1).mean())


def logistic(C: float, **options: Any) -> LogisticRegression:
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=500, **options)


def same_head(found: HeadFit, weight: npt.NDArray[Any], bias: npt.NDArray[Any], size: float) -> None:
    """As scikit-learn's on states of length one; a softmax leaves the mean of the biases open."""
    scale = np.abs(weight).max()
    np.testing.assert_allclose(found.weight.numpy() * size**0.5, weight, rtol=0, atol=1e-3 * max(1, scale))
    np.testing.assert_allclose(found.bias - found.bias.mean(), bias - bias.mean(), rtol=0, atol=5e-3)


@pytest.mark.parametrize("C", [0.3, 10.0, 300.0])
def test_one_label_is_scikit_learns_logistic_regression(C: float) -> None:
    states = drawn()
    targets, size = classes(states), size_of(states)
    found = fit_head(sample_of("single_label", states, targets), 3, strength=C)
    scaled = (states.double() / size**0.5).numpy()
    wanted = logistic(C).fit(scaled, targets.numpy())
    same_head(found, wanted.coef_, wanted.intercept_, size)
    probabilities = torch.softmax(states @ found.weight.t() + found.bias, 1)
    np.testing.assert_allclose(probabilities, wanted.predict_proba(scaled), atol=1e-3)
    assert found.loss == pytest.approx(log_loss(targets, wanted.predict_proba(scaled)), abs=1e-4)
    assert (found.C, found.out_of_fold) == (C, None)


def test_class_weights_act_as_scikit_learns() -> None:
    """A mean with weights divides by their sum over the rows."""
    states, weights = drawn(), torch.tensor([4.0, 1.0, 0.5])
    targets, size = classes(states), size_of(states)
    found = fit_head(sample_of("single_label", states, targets, weights=weights), 3, strength=10.0)
    scaled, total = (states.double() / size**0.5).numpy(), float(weights[targets].sum())
    weighed = dict(enumerate(weights.tolist()))
    wanted = logistic(10.0 * ROWS / total, class_weight=weighed).fit(scaled, targets.numpy())
    same_head(found, wanted.coef_, wanted.intercept_, size)
    plain = fit_head(sample_of("single_label", states, targets), 3, strength=10.0)
    assert (found.weight - plain.weight).abs().max() > 0.05


def test_several_labels_are_one_logistic_regression_each() -> None:
    """The loss is the mean over the labels, too."""
    states = drawn()
    size = size_of(states)
    logits = states - states.mean(0)
    noise = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(3))
    targets = ((logits[:, :3] + noise) > 0).float()
    found = fit_head(sample_of("multi_label", states, targets), 3, strength=30.0)
    for label in range(3):
        wanted = logistic(30.0 / 3).fit((states.double() / size**0.5).numpy(), targets[:, label].numpy())
        np.testing.assert_allclose(found.weight[label] * size**0.5, wanted.coef_[0], rtol=0, atol=1e-2)
        probabilities = torch.sigmoid(states @ found.weight[label] + found.bias[label])
        scaled = (states.double() / size**0.5).numpy()
        np.testing.assert_allclose(probabilities, wanted.predict_proba(scaled)[:, 1], atol=1e-3)


@pytest.mark.parametrize("C", [0.3, 30.0])
def test_a_number_is_ridge(C: float) -> None:
    states = drawn()
    size = size_of(states)
    targets = (
        states[:, 0] * 0.4 - states[:, 3] + torch.randn(ROWS, generator=torch.Generator().manual_seed(5))
    )
    found = fit_head(sample_of("regression", states, targets, labels=("value",)), 1, strength=C)
    wanted = Ridge(alpha=1 / (2 * C)).fit((states.double() / size**0.5).numpy(), targets.numpy())
    np.testing.assert_allclose(found.weight[0] * size**0.5, wanted.coef_.ravel(), rtol=0, atol=1e-2)
    predicted = states @ found.weight[0] + found.bias[0]
    np.testing.assert_allclose(
        predicted, wanted.predict((states.double() / size**0.5).numpy()).ravel(), atol=2e-3
    )


def test_two_choices_are_a_logistic_regression_on_their_difference() -> None:
    values = drawn(2 * ROWS)
    first, second = values[0::2], values[1::2]
    targets = (
        (second - first)[:, 0] + torch.randn(ROWS, generator=torch.Generator().manual_seed(6)) > 0
    ).long()
    counts = torch.full((ROWS,), 2)
    sample = sample_of("multiple_choice", values, targets, counts=counts, labels=("choice",))
    found, size = fit_head(sample, 1, strength=10.0), size_of(values)
    wanted = logistic(10.0, fit_intercept=False).fit(
        ((second - first).double() / size**0.5).numpy(), targets.numpy()
    )
    np.testing.assert_allclose(found.weight * size**0.5, wanted.coef_, rtol=0, atol=1e-2)


def test_states_that_are_not_finite_are_refused() -> None:
    states = drawn()
    states[[3, 8], 2] = torch.nan
    sample = sample_of("single_label", states, torch.zeros(ROWS, dtype=torch.int64))
    with pytest.raises(TrainingFailedError, match="2 of 90 states of the train rows are not finite"):
        fit_head(sample, 3)


def test_words_are_one_logistic_regression_over_those_of_all_rows() -> None:
    """Some rows have no words; C is by rows, the mean is over words."""
    counts = torch.tensor([0, 1, 3, 7] * 20)
    values = drawn(int(counts.sum()))
    tags = classes(values)
    targets = torch.full((len(counts), 7), -100)
    targets[torch.arange(7) < counts[:, None]] = tags
    found = fit_head(
        sample_of("token_labels", values, targets, counts=counts, labels=("O", "B-x", "I-x")),
        3,
        strength=30.0,
    )
    size = size_of(values)
    wanted = logistic(30.0 * len(counts) / len(values)).fit(
        (values.double() / size**0.5).numpy(), tags.numpy()
    )
    same_head(found, wanted.coef_, wanted.intercept_, size)
    chosen = fit_head(
        sample_of("token_labels", values, targets, counts=counts, labels=("O", "B-x", "I-x")), 3
    )
    assert chosen.out_of_fold is not None
    assert chosen.out_of_fold.shape == (80, 21)
    has = torch.arange(21) < 3 * counts[:, None]
    assert torch.equal(chosen.out_of_fold.isfinite(), has)


# ---- the choice of the decay


def brute_force(
    states: Tensor, targets: Tensor, folds: Sequence[Sequence[int]], C: float
) -> tuple[float, Any]:
    """The mean held-out loss by scikit-learn, and every row's probabilities by the fold without it."""
    scaled = (states.double() / size_of(states) ** 0.5).numpy()
    out = np.zeros((len(states), 3))
    for fold in folds:
        rest = sorted(set(range(len(states))) - set(fold))
        model = logistic(C * len(states) / len(rest)).fit(scaled[rest], targets.numpy()[rest])
        out[list(fold)] = model.predict_proba(scaled[list(fold)])
    return float(log_loss(targets.numpy(), out)), out


@pytest.mark.parametrize("noise", [1.0, 4.0, 0.2])
def test_cross_validation_picks_what_brute_force_picks(noise: float) -> None:
    states = drawn()
    targets = classes(states, noise=noise)
    found = fit_head(sample_of("single_label", states, targets), 3, seed=4)
    folds = deal(targets.tolist(), FOLDS, 4)
    scores = {C: brute_force(states, targets, folds, C) for C in _STRENGTHS}
    assert scores[found.C][0] == pytest.approx(min(loss for loss, _ in scores.values()), abs=1e-3)
    assert found.out_of_fold is not None
    np.testing.assert_allclose(torch.softmax(found.out_of_fold, 1), scores[found.C][1], atol=2e-2)
    again = fit_head(sample_of("single_label", states, targets), 3, strength=found.C)
    torch.testing.assert_close(again.weight, found.weight, rtol=5e-3, atol=2e-3)


def test_noisier_labels_get_a_stronger_decay() -> None:
    states = drawn()
    clean, noisy = (
        fit_head(sample_of("single_label", states, classes(states, noise=noise)), 3) for noise in (0.05, 8.0)
    )
    assert clean.C > 10 * noisy.C


def test_a_row_has_no_part_in_its_own_out_of_fold_logits() -> None:
    states = drawn()
    targets = classes(states)
    strata = targets.tolist()
    before = fit_head(sample_of("single_label", states, targets), 3)
    targets[7] = (targets[7] + 1) % 3
    changed = replace(sample_of("single_label", states, targets), strata=strata)
    after = fit_head(changed, 3)
    assert before.C == after.C
    assert before.out_of_fold is not None
    assert after.out_of_fold is not None
    own = next(fold for fold in deal(strata, FOLDS, 0) if 7 in fold)
    others = sorted(set(range(ROWS)) - set(own))
    torch.testing.assert_close(before.out_of_fold[own], after.out_of_fold[own], rtol=0, atol=2e-2)
    assert (before.out_of_fold[others] - after.out_of_fold[others]).abs().max() > 0.05


@given(
    strata=st.lists(st.integers(0, 4), min_size=1, max_size=60), num=st.integers(1, 6), seed=st.integers(0, 3)
)
def test_folds_cover_every_row_once_and_share_each_stratum(strata: list[int], num: int, seed: int) -> None:
    folds = deal(strata, num, seed)
    assert sorted(row for fold in folds for row in fold) == list(range(len(strata)))
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for stratum in set(strata):
        counts = [sum(strata[row] == stratum for row in fold) for fold in folds]
        assert max(counts) - min(counts) <= 1
    assert folds == deal(strata, num, seed)


def test_rows_of_a_stratum_are_dealt_in_an_order_from_the_seed() -> None:
    assert deal([0] * 40, 5, 0) != deal([0] * 40, 5, 1)
    assert deal([0] * 40, 5, 0)[0] != list(range(0, 40, 5))


def test_one_row_and_states_without_spread_have_a_head() -> None:
    alone = fit_head(sample_of("single_label", torch.ones(1, WIDTH), torch.tensor([2])), 3)
    assert torch.isfinite(alone.weight).all()
    assert (alone.C, alone.out_of_fold) == (10.0, None)
    assert (torch.ones(WIDTH) @ alone.weight.t() + alone.bias).argmax() == 2
    same = fit_head(sample_of("single_label", torch.zeros(9, WIDTH), torch.tensor([0, 1, 1] * 3)), 3)
    assert (same.weight == 0).all()
    torch.testing.assert_close(torch.softmax(same.bias, 0)[1], torch.tensor(2 / 3), atol=1e-2, rtol=0)


# ---- the search


def test_rotated_states_are_the_states() -> None:
    states = drawn()
    found = Rotated.of(states)
    torch.testing.assert_close(found.mean + found.z @ found.basis.t(), states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.z.var(0, unbiased=False), found.spread, rtol=1e-3, atol=1e-5)
    weight, bias = torch.randn(3, WIDTH), torch.randn(3)
    turned, moved = found.unfold(weight, bias)
    torch.testing.assert_close(states @ turned.t() + moved, found.z @ weight.t() + bias, rtol=1e-4, atol=1e-4)


def bend_of(loss: Loss, logits: Tensor) -> float:
    """By the whole matrix of second derivatives: per state, the mean over its logits."""
    matrix = torch.autograd.functional.hessian(lambda flat: loss(flat.view_as(logits)), logits.flatten())  # type: ignore[no-untyped-call]  # torch's own
    return float(matrix.diagonal().mean()) * len(logits)


def test_the_curvature_is_the_diagonal_of_the_second_derivative() -> None:
    """Exact where logits do not act on each other, near it in a softmax."""
    made = torch.Generator().manual_seed(2)
    logits = torch.randn(60, 3, generator=made)
    binary, numbers = (torch.rand(60, 3, generator=made) > 0.5).float(), torch.randn(60, 3, generator=made)
    tags = torch.randint(0, 3, (60,), generator=made)
    exact: list[Loss] = [
        lambda found: binary_cross_entropy_with_logits(found, binary),
        lambda found: mse_loss(found, numbers),
    ]
    for loss in exact:
        assert curvature(loss, logits) == pytest.approx(bend_of(loss, logits), rel=1e-4)
    assert curvature(lambda found: cross_entropy(found, tags), logits) == pytest.approx(
        bend_of(lambda found: cross_entropy(found, tags), logits), rel=0.5
    )


def test_several_problems_at_once_are_each_alone() -> None:
    states = drawn()
    sample = sample_of("single_label", states, classes(states))
    rotated, halves = Rotated.of(states), (range(0, 45), range(45, 90))
    losses = [sample.loss_of(rows) for rows in halves]
    together = minimise(rotated, losses, 0.05, Fits.zero(2, 3, rotated), 1e-5)
    for place, loss in enumerate(losses):
        alone = minimise(rotated, [loss], 0.05, Fits.zero(1, 3, rotated), 1e-5)
        torch.testing.assert_close(together.weight[place], alone.weight[0], rtol=0, atol=2e-3)


def test_every_row_has_logits_of_a_head_that_has_not_seen_it_where_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of many rows one fold alone chooses the decay; the others are fitted with what it chose."""
    states = drawn()
    sample = sample_of("single_label", states, classes(states, noise=4.0))
    monkeypatch.setattr(fitted, "_FEW", 0)
    assert fit_head(sample, 3).out_of_fold is None
    found = fit_head(sample, 3, every_row=True)
    assert found.out_of_fold is not None
    rows = list(range(ROWS))
    folds = deal(sample.strata, FOLDS, 0)
    for own in folds:
        seen = [row for row in rows if row not in own]
        part = sample_of("single_label", states[seen], sample.wanted.targets[seen])
        size = size_of(states[seen]) / size_of(states) * len(seen) / ROWS
        alone = fit_head(part, 3, strength=found.C / size)
        wanted = states[own] @ alone.weight.T + alone.bias
        torch.testing.assert_close(
            torch.softmax(found.out_of_fold[own], 1), torch.softmax(wanted, 1), rtol=0, atol=2e-2
        )
