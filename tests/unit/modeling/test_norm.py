"""The norms that an adapter trains, against torch's own: values and gradients, with an eps that counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modeling.ops.norm import Norm

EPS = 0.3


class RootMeanSquare(nn.Module):
    """T5's norm, in torch's operations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.variance_epsilon = EPS

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["layer", "root mean square"])
def test_a_trained_norm_has_the_values_and_gradients_of_torch(kind: str, bias: bool) -> None:
    frozen = nn.LayerNorm(6, eps=EPS, bias=bias) if kind == "layer" else RootMeanSquare(6)
    for parameter in frozen.parameters():
        nn.init.normal_(parameter)
    own, weights = Norm(frozen), torch.randn(3, 5, 6)
    x, same = (torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x.requires_grad_(), same.requires_grad_()
    found, wanted = own(x, x), frozen(same)
    torch.testing.assert_close(found, wanted)
    (found * weights).sum().backward()
    (wanted * weights).sum().backward()
    torch.testing.assert_close(x.grad, same.grad)
    for got, expected in zip(own.parameters(), frozen.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)
