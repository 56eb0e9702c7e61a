"""Minimise a convex loss of a linear head plus its decay: as logistic regression, ridge and their kin do.

    mean loss of the rows' logits x W^T + b  +  l2 / 2 * ||W||^2     (scikit-learn's C is 1 / (l2 * rows))

Several such problems over the same states (the folds of a cross-validation, or all rows) are one product and
one search. The states are centred, turned to the eigenvectors of their covariance and scaled by what the
second derivative is there: in these coordinates the problem is nearly round, so some twenty steps of L-BFGS
do. Nothing small is blown up, since the decay bounds the scale.

M states, F numbers each, L logits, P problems.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_STEPS = 200
_HISTORY = 12
_LEAST_CURVATURE = 1e-5

Loss = Callable[[Tensor], Tensor]
"""Logits [M, L] of all states -> the mean loss of the rows of one problem."""


@dataclass(frozen=True)
class Rotated:
    """States [M, F] as `z` [M, F]: x = mean + z basis^T, where z has the variances `spread` [F]."""

    z: Tensor
    mean: Tensor
    basis: Tensor
    spread: Tensor

    @classmethod
    def of(cls, states: Tensor) -> "Rotated":
        """In float32; the covariance in float64, so that directions without spread come out as such."""
        mean = states.double().mean(dim=0)
        centred = states.double() - mean
        spread, basis = torch.linalg.eigh(centred.t() @ centred / len(states))
        spread, basis = spread.clamp_min(0).float(), basis.float()
        return cls(centred.float() @ basis, mean.float(), basis, spread)

    def unfold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A head [L, F], [L] on z -> the same head on the states."""
        turned = weight @ self.basis.t()
        return turned, bias - turned @ self.mean


@dataclass(frozen=True)
class Fits:
    """The heads of P problems over the same states: weight [P, L, F] on z and bias [P, L]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def zero(cls, num_problems: int, num_logits: int, states: Rotated) -> "Fits":
        made = states.z.new_zeros
        return cls(made(num_problems, num_logits, states.z.shape[1]), made(num_problems, num_logits))

    def logits(self, z: Tensor) -> Tensor:
        """Of z [M, F] under each problem: [P, M, L]; one product."""
        found = z @ self.weight.flatten(0, 1).t()
        return found.view(len(z), *self.bias.shape).transpose(0, 1) + self.bias[:, None]


@torch.enable_grad()
def minimise(states: Rotated, losses: Sequence[Loss], l2: float, start: Fits, tolerance: float) -> Fits:
    """The heads that minimise each of the losses, searched from `start`.

    L-BFGS (Liu and Nocedal 1989) with Wolfe's conditions, until no slope is over `tolerance`.
    """
    bend = curvature(losses[-1], start.logits(states.z)[-1])
    scale = (bend * states.spread + l2).clamp_min(1e-12).rsqrt()  # [F]
    bias_scale = bend**-0.5
    weight = (start.weight / scale).requires_grad_(True)
    bias = (start.bias / bias_scale).requires_grad_(True)
    z = states.z * scale
    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MOST_STEPS,
        max_eval=2 * _MOST_STEPS,
        tolerance_grad=tolerance,
        tolerance_change=1e-9,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        search.zero_grad()
        found = Fits(weight, bias * bias_scale).logits(z)
        total = l2 / 2 * (weight * scale).square().sum()
        for loss, logits in zip(losses, found, strict=True):
            total = total + loss(logits)
        total.backward()  # type: ignore[no-untyped-call]  # torch's own
        return total

    search.step(objective)  # type: ignore[no-untyped-call]  # torch's own
    return Fits((weight * scale).detach(), (bias * bias_scale).detach())


@torch.enable_grad()
def curvature(loss: Loss, logits: Tensor) -> float:
    """How much the mean loss of a state bends in a logit [M, L], by one probe (Hutchinson 1990)."""
    logits = logits.detach().requires_grad_(True)
    chooser = torch.Generator().manual_seed(0)
    probe = (torch.randint(0, 2, logits.shape, generator=chooser) * 2 - 1).to(logits)
    (slope,) = torch.autograd.grad(loss(logits), logits, create_graph=True)
    (bent,) = torch.autograd.grad((slope * probe).sum(), logits)
    return max(float((bent * probe).mean()) * len(logits), _LEAST_CURVATURE)
