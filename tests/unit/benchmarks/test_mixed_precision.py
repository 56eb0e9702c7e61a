"""Products in bfloat16: near the float32 ones, forward and backward, and gone afterwards."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.mixed_precision import in_bfloat16, rounded_products


def _run(model: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    y = model(x)
    return (y.detach(), *torch.autograd.grad(y.square().sum(), [x, *model.parameters()], allow_unused=True))


@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_near_those_in_float32(bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 32, bias=bias), nn.GELU(), nn.Linear(32, 16, bias=bias))
    x = torch.randn(3, 7, 48, requires_grad=True)
    exact = _run(model, x)
    with in_bfloat16(rounded_products(model)):
        near = _run(model, x)
    for got, want in zip(near, exact, strict=True):
        assert got.dtype == torch.float32
        assert not torch.equal(got, want)
        assert (got - want).norm() < 0.02 * want.norm()
    assert all(torch.equal(got, want) for got, want in zip(_run(model, x), exact, strict=True))


def test_a_frozen_weight_gets_no_gradient_and_a_swapped_one_is_seen() -> None:
    linear = nn.Linear(8, 8)
    model = nn.Sequential(linear).requires_grad_(False)
    x = torch.randn(5, 8, requires_grad=True)
    products = rounded_products(model)
    with in_bfloat16(products):
        before = model(x)
        before.sum().backward()
        assert linear.weight.grad is None
        linear.weight = nn.Parameter(torch.zeros(8, 8))
        assert torch.equal(model(x), linear.bias.expand(5, 8))
