"""norm: the backbone's norm with a gain and a bias of one's own; training and serving form.

Not folded into `affine`, which would have to divide by the frozen gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ..errors import ModelingError
from ..sites import Tap
from .base import OPS, PackedTap, RowOp


class Norm(nn.Module):
    """Training form: LayerNorm(x) with gain [H] and bias [H] that start at the frozen module's values."""

    replaces: ClassVar[bool] = True

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        norm = _layer_norm(frozen)
        self.eps = norm.eps
        self.gain = nn.Parameter(norm.weight.detach().clone())
        self.bias = nn.Parameter(norm.bias.detach().clone())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [1, T, H] -> [1, T, H]; y is not read, the frozen norm was not run."""
        return layer_norm(x, self.gain.shape, self.gain, self.bias, self.eps)


def pack_norm(module: nn.Module) -> PackedTap:
    """Serving form of a `Norm`."""
    return PackedTap("norm", {name: p.detach() for name, p in module.named_parameters()})


def _layer_norm(frozen: nn.Module) -> nn.LayerNorm:
    if not isinstance(frozen, nn.LayerNorm):
        raise ModelingError(f"the norm op needs a LayerNorm, this backbone has {type(frozen).__name__}")
    return frozen


def _identity(tap: Tap, frozen: nn.Module) -> dict[str, Tensor]:
    norm = _layer_norm(frozen)
    return {"gain": norm.weight.detach(), "bias": norm.bias.detach()}


def _apply(frozen: nn.Module, parts: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    norm = _layer_norm(frozen)
    gain, bias = parts["gain"], parts["bias"]
    if gain.shape[0] == 1:  # the whole batch shares one norm: the fused kernel does it
        return layer_norm(x, norm.normalized_shape, gain[0], bias[0], norm.eps)
    return torch.addcmul(bias, layer_norm(x, norm.normalized_shape, None, None, norm.eps), gain)


OPS.register("norm")(RowOp("norm", order=0, replaces=True, identity=_identity, apply=_apply))
