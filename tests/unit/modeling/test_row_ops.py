"""Training and serving forms share their functions: here these are compared with formulas and torch's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from modeling import METHODS, Site, Tap
from modeling.ops import OPS
from modeling.ops.affine import Affine
from modeling.ops.low_rank import LowRankUpdate
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


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("shift", [True, False])
def test_affine_is_scale_times_y_plus_shift(scale: bool, shift: bool) -> None:
    module, y = Affine(4, scale=scale, shift=shift), torch.randn(2, 3, 4)
    assert torch.equal(module(y, y), y)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    wanted = y * (module.scale if module.scale is not None else 1.0)
    wanted = wanted + (module.shift if module.shift is not None else 0.0)
    torch.testing.assert_close(module(torch.zeros_like(y), y), wanted)
    rows = {name: parameter.expand(2, 1, 4) for name, parameter in module.named_parameters()}
    torch.testing.assert_close(OPS["affine"].apply(nn.Identity(), rows, (), y, y), wanted)


def test_a_low_rank_update_is_the_scaled_product_beside_y() -> None:
    module = LowRankUpdate(5, 4, 2, 0.7)
    nn.init.normal_(module.b)
    x, y = torch.randn(2, 3, 5), torch.randn(2, 3, 4)
    torch.testing.assert_close(module(x, y), y + 0.7 * (x @ module.a @ module.b))


def test_prompts_stand_in_place_of_the_first_tokens() -> None:
    y, prompt = torch.arange(24.0).view(2, 4, 3), -torch.arange(1.0, 13.0).view(2, 2, 3)
    found = OPS["prompt"].apply(nn.Identity(), {"prompt": prompt}, (), y, y)
    assert torch.equal(found[:, :2], prompt)
    assert torch.equal(found[:, 2:], y[:, 2:])


def test_ops_run_in_a_fixed_sequence() -> None:
    """A norm computes y from x, so it must come before all that changes y; a prompt stands last."""
    order = sorted(OPS, key=lambda name: OPS[name].order)
    assert order[0] == "norm"
    assert order[-1] == "prompt"
    assert len({OPS[name].order for name in order}) == len(order)


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu_new": partial(nn.functional.gelu, approximate="tanh"),
    "relu": torch.relu,
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize("post", [True, False])
def test_a_dense_block_is_its_formula(activation: str, pre: bool, post: bool) -> None:
    """y + post(up(act(down(pre(y))))), by the names of its parameters in a file."""
    options = {"bottleneck": 4, "activation": activation, "pre_norm": pre, "post_norm": post}
    tap = Tap(Site.ATTN_OUT, "encoder", 0, "x", "out", 6, 6)
    block = METHODS["houlsby"].from_config(options).build(tap, nn.Identity(), {})
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    own, y = dict(block.named_parameters()), torch.randn(2, 3, 6)

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return nn.functional.layer_norm(x, (6,), own[f"{name}.gain"], own[f"{name}.bias"], 1e-5)

    x = normed(y, "pre") if pre else y
    inner = ACTIVATIONS[activation](x @ own["down.weight"].mT + own["down.bias"])
    up = inner @ own["up.weight"].mT + own["up.bias"]
    torch.testing.assert_close(block(torch.zeros_like(y), y), y + (normed(up, "post") if post else up))
