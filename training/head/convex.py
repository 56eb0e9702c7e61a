"""Minimise a convex loss of a linear head plus its decay: as logistic regression, ridge and their kin do.

    mean over rows of loss(x W^T + b) + l2 / 2 * ||W||^2        (scikit-learn's C is 1 / (l2 * N))

Several such problems over the same rows (the folds of a cross-validation, and all rows) are one product and
one search. The features are centred, turned to the eigenvectors of their covariance and scaled by what the
Hessian can be at most there: in these coordinates the problem is round, so some ten steps of L-BFGS do, and
nothing small is blown up, since the decay bounds the scale.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_STEPS = 150
_TOLERANCE = 1e-5
_HISTORY = 12

Loss = Callable[[Tensor, Sequence[int]], Tensor]
"""Logits [n K, L] of n rows of K texts, and which rows: their mean loss."""


@dataclass(frozen=True)
class Rotated:
    """Features [N, K, F] as `z` [N K, F]: x = mean + basis z, where z has the variances `spread` [F]."""

    z: Tensor
    mean: Tensor
    basis: Tensor
    spread: Tensor
    per_row: int

    @classmethod
    def of(cls, features: Tensor) -> "Rotated":
        """In float32; the covariance in float64, so that directions without spread come out as such."""
        flat = features.flatten(0, -2)
        mean = flat.double().mean(dim=0)
        centred = flat.double() - mean
        spread, basis = torch.linalg.eigh(centred.t() @ centred / len(flat))
        spread, basis = spread.clamp_min(0).float(), basis.float()
        return cls(centred.float() @ basis, mean.float(), basis, spread, features.shape[-2])

    def unfold(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A head [L, F], [L] on z -> the same head on the features."""
        turned = weight @ self.basis.t()
        return turned, bias - turned @ self.mean


@dataclass
class Fits:
    """The heads of P problems over the same rows: weight [P, L, F] on z and bias [P, L]."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def zero(cls, num_problems: int, num_logits: int, rows: Rotated) -> "Fits":
        made = rows.z.new_zeros
        return cls(made(num_problems, num_logits, rows.z.shape[1]), made(num_problems, num_logits))

    def logits(self, z: Tensor) -> Tensor:
        """Of z [M, F] under each problem: [M, P, L]; one product."""
        found = z @ self.weight.flatten(0, 1).t()
        return found.view(len(z), *self.bias.shape) + self.bias


@torch.enable_grad()
def minimise(rows: Rotated, loss: Loss, members: Sequence[Sequence[int]], l2: float, start: Fits) -> Fits:
    """The heads of one problem for each list of `members` (row numbers), searched from `start`.

    L-BFGS (Nocedal, 1980) with a line search by Wolfe's conditions, in the coordinates described above.
    """
    bend = curvature(loss, start.logits(rows.z)[:, -1], len(rows.z) // rows.per_row)
    scale = (bend * rows.spread + l2).clamp_min(1e-12).rsqrt()  # [F]
    bias_scale = 1 / math.sqrt(bend)
    weight = (start.weight / scale).requires_grad_(True)
    bias = (start.bias / bias_scale).requires_grad_(True)
    z, texts = rows.z * scale, [_texts(m, rows.per_row, rows.z.device) for m in members]
    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MOST_STEPS,
        max_eval=2 * _MOST_STEPS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=1e-9,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        search.zero_grad()
        found = Fits(weight, bias * bias_scale).logits(z)
        total = l2 / 2 * (weight * scale).square().sum()
        for number, (chosen, index) in enumerate(zip(members, texts, strict=True)):
            own = found[:, number]
            total = total + loss(own if index is None else own[index], chosen)
        total.backward()  # type: ignore[no-untyped-call]  # torch's own
        return total

    search.step(objective)  # type: ignore[no-untyped-call]  # torch's own
    return Fits((weight * scale).detach(), (bias * bias_scale).detach())


def _texts(rows: Sequence[int], per_row: int, device: torch.device) -> Tensor:
    """The numbers of the texts of some rows."""
    first = torch.as_tensor(rows, device=device) * per_row
    return (first[:, None] + torch.arange(per_row, device=device)).flatten()


@torch.enable_grad()
def curvature(loss: Loss, logits: Tensor, num_rows: int) -> float:
    """The mean second derivative of the rows' loss in a logit, by one probe (Hutchinson, 1990)."""
    logits = logits.detach().requires_grad_(True)
    probe = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    probe = probe.to(logits)
    (slope,) = torch.autograd.grad(loss(logits, range(num_rows)), logits, create_graph=True)
    (bent,) = torch.autograd.grad((slope * probe).sum(), logits)
    return max(float((bent * probe).mean()) * num_rows, 1e-4)
