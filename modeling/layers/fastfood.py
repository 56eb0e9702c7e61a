"""The Walsh-Hadamard and the Fastfood transform: a cheap random projection from few to many numbers.

Le, Sarlos and Smola, "Fastfood: Approximating Kernel Expansions in Loglinear Time", ICML 2013, in the form of
Aghajanyan et al., "Intrinsic Dimensionality Explains the Effectiveness of Language Model Fine-Tuning", ACL
2021, arXiv 2012.13255:

    y = H(G * (H(B * pad(x)))[Pi])[:D] / (divisor * sqrt(D / L)),   divisor = sqrt(L * sum(G^2))

with L the power of two from D on, H the unnormalised Walsh-Hadamard transform in natural order, signs B,
permutation Pi and Gaussian G of length L. It keeps the length of x in expectation while x has at most L
numbers; of a longer x the first L are read (what padding to L does in the official code).

Gradients are the ordinary ones. The official code of Compacter differs: its hand-written backward pass
divides each of the two transforms by sqrt(L), so its gradient is the true one divided by L, another factor
for each tensor of the model. It is not offered here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_BLOCK = 64  # bits are transformed six at a time: one matrix product instead of six passes over memory


def walsh_hadamard(x: Tensor) -> Tensor:
    """The unnormalised transform over the last dimension, in natural (Hadamard) order.

    x [..., L] -> [..., L]; twice gives L x. Raises ValueError unless L is a power of two.
    """
    size = x.shape[-1]
    if size & (size - 1) or size == 0:
        raise ValueError(
            f"the Walsh-Hadamard transform takes a power of two, not {size} numbers: pad with zeros"
        )
    y, step = x, 1
    while step < size:
        order = min(_BLOCK, size // step)
        matrix = _hadamard(order, x.dtype, x.device)
        y = y.reshape(-1, order) @ matrix if step == 1 else matrix @ y.reshape(-1, order, step)
        step *= order
    return y.reshape(x.shape)


@lru_cache(maxsize=32)
def _hadamard(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a kept inference tensor would break later backward passes
        matrix = torch.ones(1, 1, dtype=dtype, device=device)
        while matrix.shape[0] < order:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
        return matrix


def padded_size(size: int) -> int:
    """L: the smallest power of two that is not below `size`."""
    return 1 << (size - 1).bit_length()


def new_constants(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """B, Pi and G for a transform to `size` numbers, each [L], drawn on the CPU in this order."""
    length = padded_size(size)
    signs = torch.randint(2, (length,), generator=generator).mul_(2).sub_(1)
    permutation = torch.randperm(length, generator=generator)
    return signs, permutation, torch.randn(length, generator=generator)


@dataclass(frozen=True, slots=True)
class Fastfood:
    """The transform from d to D = `size` numbers with its constants, in the form that is cheap to apply.

    What was padded repeats after the first transform with period P, the power of two from d on, so this
    transform has length P and not L: `source` [L] is Pi modulo P, `signs` [min(d, L)] the part of B that
    meets numbers, and `weights` [L] is G with all divisors.
    """

    size: int
    signs: Tensor
    source: Tensor
    weights: Tensor

    @classmethod
    def of(cls, size: int, inputs: int, signs: Tensor, permutation: Tensor, gaussian: Tensor) -> Fastfood:
        """From the constants B, Pi and G, each [L]. Raises ValueError for another length."""
        length = padded_size(size)
        if not signs.shape == permutation.shape == gaussian.shape == (length,):
            raise ValueError(f"a transform to {size} numbers takes constants of {length} elements each")
        read = min(inputs, length)
        divisor = math.sqrt(length * float(gaussian.double().square().sum())) * math.sqrt(size / length)
        source = (permutation % padded_size(read)).to(torch.int32)
        return cls(size, signs[:read], source, gaussian / divisor)

    def to(self, device: torch.device) -> Fastfood:
        return Fastfood(self.size, self.signs.to(device), self.source.to(device), self.weights.to(device))

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., d] -> [..., D], differentiable in x."""
        read = self.signs.shape[0]
        signed = x[..., :read] * self.signs.to(x.dtype)
        first = walsh_hadamard(torch.nn.functional.pad(signed, (0, padded_size(read) - read)))
        mixed = first.index_select(-1, self.source) * self.weights.to(x.dtype)
        return walsh_hadamard(mixed)[..., : self.size]
