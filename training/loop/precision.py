"""Training steps whose products with frozen weights take bfloat16 numbers and give float32 sums.

Weights, biases, norms, residuals, attention, the adapter, its head and the optimiser stay float32: only what
the linear layers of the backbone multiply is rounded, forward and backward. Evaluation, probes and the
published file never see this, so what a step learns from is a little noisier and what is measured is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from modeling.rounding import has_bfloat16

AUTO, FLOAT32, BFLOAT16 = PRECISIONS = ("auto", "float32", "bfloat16")

_PRODUCTS: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # torch makes it when imported


def chosen(precision: str, device: torch.device) -> str:
    """What `auto` means on this device: bfloat16 where the processor has such products."""
    if precision != AUTO:
        return precision
    return BFLOAT16 if has_bfloat16_products(device) else FLOAT32


def has_bfloat16_products(device: torch.device) -> bool:
    """AMX-BF16 or AVX512-BF16 on a CPU, tensor cores with bfloat16 on a GPU; never an emulation."""
    return has_bfloat16(device, ("amx_bf16", "avx512_bf16"))


class RoundedProducts:
    """Stand-ins for all linear layers of a model, in force within `used()`; made once for a run.

    The model's modules are as they were outside of it. Other weights may be put into the model at any time:
    what is multiplied is what a layer holds when it is called.
    """

    def __init__(self, model: nn.Module) -> None:
        linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self._layers = [(linear, _RoundedLinear(linear)) for linear in linears]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Forward passes in it are rounded, and so are their backward passes, wherever these run."""
        for linear, rounded in self._layers:
            linear.forward = rounded  # type: ignore[method-assign, assignment]  # shadowed, deleted below
        try:
            yield
        finally:
            for linear, _ in self._layers:
                linear.__dict__.pop("forward", None)


def products_of(precision: str, model: nn.Module, device: torch.device) -> RoundedProducts | None:
    """What training steps in this precision use; nothing where they are plain float32."""
    return RoundedProducts(model) if chosen(precision, device) == BFLOAT16 else None


class _RoundedLinear:
    """The forward pass of one linear layer; a frozen weight's rounded copy is kept where one is needed."""

    def __init__(self, linear: nn.Linear) -> None:
        self._linear = linear
        self._kept: tuple[Tensor, int, Tensor] | None = None  # a weight, its version, and it rounded

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self._linear.weight, self._linear.bias
        if weight.dtype != torch.float32:  # a backbone in 16 bits has rounded all there is
            return nn.functional.linear(x, weight, bias)
        y: Tensor = _Linear.apply(x, weight, bias, self._rounded(weight))  # type: ignore[no-untyped-call]  # torch's own, without types
        return y

    def _rounded(self, weight: Tensor) -> Tensor:
        """The weight as `_multiply` takes it."""
        if _rounds_itself(weight.device):
            return weight
        if weight.requires_grad:
            return weight.detach().bfloat16()
        kept = self._kept
        if kept is None or kept[0] is not weight or kept[1] != weight._version:
            kept = self._kept = weight, weight._version, weight.bfloat16()
        return kept[2]


class _Linear(torch.autograd.Function):
    """x [..., I] @ weight.T [I, O] + bias [O], and its gradients: rounded factors, float32 sums."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rounded: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(rounded, flat if ctx.needs_input_grad[1] else None)
        y = _multiply(flat, rounded.t())
        return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rounded, flat = ctx.saved_tensors
        rows, wanted = gradient.reshape(-1, gradient.shape[-1]), ctx.needs_input_grad
        return (
            _multiply(rows, rounded).view(*gradient.shape[:-1], -1) if wanted[0] else None,
            _multiply(rows.t(), flat) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
            None,
        )


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K] @ b [K, N] with both rounded to bfloat16, summed and given in float32 [M, N]."""
    if a.is_cuda:
        return torch.mm(a.bfloat16(), b.bfloat16(), out_dtype=torch.float32)
    if _rounds_itself(a.device):
        with _rounding_inside():
            return a @ b
    return a.bfloat16().float() @ b.bfloat16().float()


def _rounds_itself(device: torch.device) -> bool:
    """Whether the product's own kernel rounds float32 factors: oneDNN's does, weights included.

    On a CPU torch has no product of bfloat16 factors with a float32 result but this one.
    """
    return device.type == "cpu" and has_bfloat16_products(device)


@contextmanager
def _rounding_inside() -> Iterator[None]:
    """oneDNN may round the factors of float32 products (its `fpmath` mode); the smallest stay exact."""
    before = _PRODUCTS.fp32_precision
    _PRODUCTS.fp32_precision = "bf16"
    try:
        yield
    finally:
        _PRODUCTS.fp32_precision = before
