"""norm: the backbone's norm with a gain (and a bias, where it has one) of one's own.

LayerNorm and, for T5, the root-mean-square norm without centring or bias. Not folded into `affine`, which
would have to divide by the frozen gain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import layer_norm

from ..errors import ModelingError
from ..kernels import Scales
from ..segments import SegmentScales
from ..sites import Tap
from .base import OPS, BankParts, Parts, RowOp, Static, TapModule


class _RootMeanSquare(torch.autograd.Function):
    """`_norm` without centring; it keeps its input alone for the backward pass, not the normalised one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        """x [..., H], gain [H]."""
        spread = _inverse_spread(x, eps)
        ctx.save_for_backward(x, gain, spread)
        return (x.float() * spread).to(x.dtype) * gain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """With u = x spread: spread (g gain - u mean(g gain u)), and the sum of g u over all but H."""
        x, gain, spread = ctx.saved_tensors
        plain = x.float() * spread
        inner = gradient * gain
        for_gain = (gradient * plain).flatten(0, -2).sum(0)
        for_x = torch.addcmul(inner, plain, (inner * plain).mean(-1, keepdim=True), value=-1).mul_(spread)
        return for_x.to(x.dtype), for_gain.to(gain.dtype), None


def is_norm(frozen: nn.Module) -> bool:
    """Whether a module is a norm of a kind that this op computes."""
    eps = getattr(frozen, "eps", getattr(frozen, "variance_epsilon", None))
    return eps is not None and isinstance(getattr(frozen, "weight", None), Tensor)


def affine_of(frozen: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Gain [H] and bias [H] of the frozen norm. Raises ModelingError for a module that is none."""
    if not is_norm(frozen):
        raise ModelingError(
            f"the norm op needs a norm with a gain, this backbone has {type(frozen).__name__}"
        )
    weight, bias = frozen.weight, getattr(frozen, "bias", None)
    assert isinstance(weight, Tensor)
    return weight, bias if isinstance(bias, Tensor) else None


def eps_of(frozen: nn.Module) -> float:
    return float(getattr(frozen, "eps", getattr(frozen, "variance_epsilon", 0.0)))


def is_centred(frozen: nn.Module) -> bool:
    """A root-mean-square norm has no bias at all, not even an absent one."""
    return hasattr(frozen, "bias")


def _norm(x: Tensor, gain: Tensor | None, bias: Tensor | None, eps: float, *, centred: bool) -> Tensor:
    """x [..., H], gain and bias [H] or None."""
    if centred:
        return layer_norm(x, x.shape[-1:], gain, bias, eps)
    # The library's order: the statistics in float32, the result in the input's type, then the gain.
    y = (x.float() * _inverse_spread(x, eps)).to(x.dtype)
    return y if gain is None else y * gain


def _inverse_spread(x: Tensor, eps: float) -> Tensor:
    """One over the root mean square of x [..., H], in float32: [..., 1]."""
    return torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)


def _identity(tap: Tap, frozen: nn.Module) -> dict[str, Tensor]:
    weight, bias = affine_of(frozen)
    return {"gain": weight.detach()} | ({} if bias is None else {"bias": bias.detach()})


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    gain, bias = parts["gain"], parts.get("bias")
    eps, centred = eps_of(frozen), is_centred(frozen)
    if gain.numel() == gain.shape[-1]:  # the whole batch shares one norm: the fused kernel does it
        return _norm(x, gain.flatten(), None if bias is None else bias.flatten(), eps, centred=centred)
    plain = _norm(x, None, None, eps, centred=centred)
    return plain * gain if bias is None else torch.addcmul(bias, plain, gain)


def _rows(parts: BankParts, static: Static) -> Scales:
    return Scales.of(parts["gain"], parts.get("bias"))


def _segments(parts: BankParts, static: Static) -> SegmentScales | None:
    return SegmentScales(parts["gain"], parts["bias"]) if "bias" in parts else None


class Norm(TapModule):
    """Training form: norm(x) with gain [H] and bias [H] that start at the frozen module's values."""

    op = OPS.add(
        RowOp(
            "norm",
            order=0,
            replaces=True,
            identity=_identity,
            apply=_apply,
            rows=_rows,
            segments=_segments,
        )
    )

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        weight, bias = affine_of(frozen)
        self.eps, self.centred = eps_of(frozen), is_centred(frozen)
        self.gain = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.centred:
            z: Tensor = _RootMeanSquare.apply(x, self.gain, self.eps)  # type: ignore[no-untyped-call]  # torch's own, without types
            return z
        return _norm(x, self.gain, self.bias, self.eps, centred=True)
