"""Walsh-Hadamard and Fastfood: the definition, H H = L, kept lengths, the true gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modeling.layers.fastfood import Fastfood, new_constants, padded_size, walsh_hadamard


def hadamard(order: int) -> Tensor:
    """H[i, j] = (-1)^popcount(i & j), in double precision."""
    signs = [[(-1.0) ** (i & j).bit_count() for j in range(order)] for i in range(order)]
    return torch.tensor(signs, dtype=torch.float64)


def constants(size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    length = padded_size(size)
    signs = torch.randint(2, (length,), generator=generator) * 2 - 1
    permutation = torch.randperm(length, generator=generator)
    return signs, permutation, torch.randn(length, generator=generator, dtype=torch.float64)


def by_definition(x: Tensor, size: int, signs: Tensor, permutation: Tensor, gaussian: Tensor) -> Tensor:
    """The formula of the module's docstring, with whole matrices, on padded (or cut) input."""
    length = padded_size(size)
    H = hadamard(length)
    padded = torch.zeros(length, dtype=x.dtype)
    padded[: x.shape[0]] = x[:length]
    divisor = torch.sqrt(length * gaussian.square().sum())
    mixed = gaussian * (H @ (signs * padded))[permutation]
    return (H @ mixed)[:size] / (divisor * math.sqrt(size / length))


@pytest.mark.parametrize("power", range(11))
def test_walsh_hadamard_is_the_matrix_in_natural_order(power: int) -> None:
    x = torch.randn(3, 2**power, dtype=torch.float64)
    torch.testing.assert_close(walsh_hadamard(x), x @ hadamard(2**power))
    torch.testing.assert_close(walsh_hadamard(x[0]), hadamard(2**power) @ x[0])


@pytest.mark.parametrize("power", [0, 1, 6, 7, 13, 18])
def test_twice_is_the_length(power: int) -> None:
    x = torch.randn(2, 2**power, dtype=torch.float64)
    torch.testing.assert_close(walsh_hadamard(walsh_hadamard(x)), 2**power * x)


@pytest.mark.parametrize("size", [0, 3, 96])
def test_another_length_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, not {size}"):
        walsh_hadamard(torch.zeros(size))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 200), inputs=st.integers(1, 300), seed=st.integers(0, 1000))
def test_fastfood_is_its_formula(size: int, inputs: int, seed: int) -> None:
    """Few inputs, as many as outputs, and more than the padded length (the rest is not read)."""
    B, Pi, G = constants(size, seed)
    x = torch.randn(inputs, dtype=torch.float64)
    transform = Fastfood.of(size, inputs, B, Pi, G)
    torch.testing.assert_close(transform(x), by_definition(x, size, B, Pi, G))


@pytest.mark.parametrize(("size", "inputs"), [(10, 3), (32, 32), (20, 40), (100, 7)])
def test_the_gradient_is_the_true_one(size: int, inputs: int) -> None:
    transform = Fastfood.of(size, inputs, *new_constants(size, torch.Generator().manual_seed(size)))
    x = torch.randn(2, inputs, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transform, x)


def test_gradients_survive_a_pass_in_inference_mode() -> None:
    """The kept Hadamard matrix must not be one that autograd refuses."""
    with torch.inference_mode():
        walsh_hadamard(torch.randn(4, dtype=torch.float64))
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(walsh_hadamard, x)


def test_lengths_are_kept_in_expectation() -> None:
    x = torch.randn(50)
    generator = torch.Generator().manual_seed(0)
    draws = [Fastfood.of(300, 50, *new_constants(300, generator))(x) for _ in range(300)]
    ratios = [(y.square().sum() / x.square().sum()).item() for y in draws]
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.03)


def test_a_draw_depends_on_its_generator_alone() -> None:
    x = torch.randn(9)
    draws = [new_constants(40, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, again, other = (Fastfood.of(40, 9, *constants)(x) for constants in draws)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_constants_of_another_length_are_refused() -> None:
    B, Pi, G = constants(64, 0)
    with pytest.raises(ValueError, match="65 numbers takes constants of 128 elements"):
        Fastfood.of(65, 3, B, Pi, G)
