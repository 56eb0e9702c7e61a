"""ReLU that keeps one byte per number for the backward pass, where nothing else needs its output.

The library's keeps its whole output. The linear layer behind it needs that as well, but only while its
weight is trained; in a frozen backbone the signs are enough.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SignRelu(nn.Module):
    """max(x, 0) in front of the layer `behind`."""

    def __init__(self, behind: nn.Linear) -> None:
        super().__init__()
        self._behind = (behind,)  # in a tuple: it is no part of this module

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or self._behind[0].weight.requires_grad:
            return torch.relu(x)
        y: Tensor = _SignRelu.apply(x)  # type: ignore[no-untyped-call]  # torch's own, without types
        return y


class _SignRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return torch.relu(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return gradient * positive
