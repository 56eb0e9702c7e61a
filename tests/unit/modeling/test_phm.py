"""Hypercomplex and low-rank projections: factored equals multiplied out, with gradients; initial values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from modeling.layers.phm import (
    Projection,
    glorot_,
    kronecker_sum,
    lphm,
    new_dense,
    new_low_rank,
    new_lphm,
    new_phm,
    new_rule,
    phm,
    project,
)
from modeling.layers.product import product

SHAPES = st.fixed_dictionaries(
    {
        "n": st.sampled_from([1, 2, 3, 4, 5, 8]),
        "wide_in": st.integers(1, 7),
        "wide_out": st.integers(1, 7),
        "rank": st.integers(1, 3),
        "rows": st.integers(1, 3),  # parameter sets; 1: one for all rows
        "batch": st.integers(1, 3),
        "tokens": st.sampled_from([1, 2, 70]),  # both ways of a PHM product
        "bias": st.booleans(),
        "onto": st.booleans(),
    }
)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def compare(got: Tensor, want: Tensor, inputs: list[Tensor]) -> None:
    """Equal values, and equal gradients for a random cotangent."""
    torch.testing.assert_close(got, want)
    cotangent = torch.randn_like(want)
    got_grads = torch.autograd.grad(got, inputs, cotangent)
    for have, wanted in zip(got_grads, torch.autograd.grad(want, inputs, cotangent), strict=True):
        torch.testing.assert_close(have, wanted)


def applied(layer: Projection, x: Tensor, **shared: Tensor) -> Tensor:
    parts = {**dict(layer.named_parameters()), **shared}
    return project({name: part[None] for name, part in parts.items()}, x)


def by_loop(rule: Tensor, blocks: Tensor) -> Tensor:
    """The definition, with torch's own Kronecker product, for one parameter set."""
    return torch.stack([torch.kron(a, b) for a, b in zip(rule, blocks, strict=True)]).sum(0)


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES)
def test_factored_equals_multiplied_out(shape: dict[str, int]) -> None:
    n, i, o, k = shape["n"], shape["wide_in"], shape["wide_out"], shape["rank"]
    b = 1 if shape["rows"] == 1 else shape["batch"]
    x = drawn(shape["batch"], shape["tokens"], n * i)
    rule, left, right, full = drawn(b, n, n, n), drawn(b, n, i, k), drawn(b, n, k, o), drawn(b, n, i, o)
    bias, onto = drawn(b, n * o), drawn(shape["batch"], shape["tokens"], n * o)
    added = (bias[:, None] if shape["bias"] else 0) + (onto if shape["onto"] else 0)
    inputs = [*([bias] if shape["bias"] else []), *([onto] if shape["onto"] else [])]
    extra = {"bias": bias} if shape["bias"] else {}
    base = onto if shape["onto"] else None

    H = torch.stack([by_loop(rule[r], left[r] @ right[r]) for r in range(b)])
    got = project({"rule": rule, "left": left, "right": right, **extra}, x, base)
    compare(got, x @ H + added, [x, rule, left, right, *inputs])

    H = torch.stack([by_loop(rule[r], full[r]) for r in range(b)])
    got = project({"rule": rule, "weight": full, **extra}, x, base)
    compare(got, x @ H + added, [x, rule, full, *inputs])

    thin, wide = drawn(b, n * i, k), drawn(b, k, n * o)
    got = project({"left": thin, "right": wide, **extra}, x, base)
    compare(got, x @ (thin @ wide) + added, [x, thin, wide, *inputs])

    weight = drawn(b, n * o, n * i)
    got = project({"weight": weight, **extra}, x, base)
    compare(got, x @ weight.mT + added, [x, weight, *inputs])


def test_kronecker_sum_is_the_definition() -> None:
    rule, blocks = torch.randn(2, 3, 3, 3), torch.randn(2, 3, 4, 5)
    for r in range(2):
        torch.testing.assert_close(kronecker_sum(rule, blocks)[r], by_loop(rule[r], blocks[r]))


def test_a_factorised_rule_is_the_product_of_its_factors() -> None:
    left, right, full = torch.randn(1, 4, 4, 1), torch.randn(1, 4, 1, 4), torch.randn(1, 4, 3, 2)
    x = torch.randn(2, 5, 12)
    got = project({"weight": full, "rule_left": left, "rule_right": right}, x)
    torch.testing.assert_close(got, phm(x, left @ right, full))


def test_low_rank_of_rank_two_is_a_matrix_product_not_the_official_elementwise_one() -> None:
    layer = new_low_rank(6, 4, rank=2)
    x, left, right = torch.randn(1, 3, 6), layer.get_parameter("left"), layer.get_parameter("right")
    torch.testing.assert_close(applied(layer, x), x @ left @ right + layer.get_parameter("bias"))


def test_a_shared_rule_comes_from_elsewhere() -> None:
    rule, x = torch.randn(4, 4, 4), torch.randn(2, 3, 12)
    layer = new_lphm(12, 8, 4, rank=1)
    assert [name for name, _ in layer.named_parameters()] == ["left", "right", "bias"]
    left, right, bias = (layer.get_parameter(name) for name in ("left", "right", "bias"))
    want = x @ by_loop(rule, left @ right) + bias
    torch.testing.assert_close(applied(layer, x, rule=rule), want)
    little = new_lphm(12, 8, 4, rank=1, own_factors=False)
    assert [name for name, _ in little.named_parameters()] == ["bias"]
    torch.testing.assert_close(applied(little, x, rule=rule, left=left, right=right), want)


def test_products_with_a_matrix_of_another_type_keep_the_input_type() -> None:
    x = torch.randn(2, 3, 8, dtype=torch.bfloat16)
    rule, left, right = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 1), torch.randn(1, 4, 1, 3)
    parts = {"rule": rule, "left": left, "right": right, "bias": torch.randn(1, 12)}
    got = project(parts, x)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), project(parts, x.float()), rtol=0.1, atol=0.3)
    assert product(x, torch.randn(2, 8, 5)).dtype == torch.bfloat16
    assert lphm(x, rule, left, right, torch.zeros(2, 3, 12, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(("wide_in", "wide_out", "n"), [(10, 8, 4), (8, 10, 4), (8, 8, 0), (768, 24, 16)])
def test_a_division_that_divides_nothing_is_refused(wide_in: int, wide_out: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{n} must divide {wide_in} and {wide_out}; these do: 1, 2"):
        new_phm(wide_in, wide_out, n)
    with pytest.raises(ValueError, match="these do"):
        new_lphm(wide_in, wide_out, n, rank=1)


def uniform_within(values: Tensor, bound: float) -> bool:
    """Uniform over +-bound: nothing beyond, the edges reached, the deviation of that distribution."""
    return (
        values.abs().max().item() <= bound
        and values.abs().max().item() > 0.95 * bound
        and abs(values.std().item() / (bound / math.sqrt(3)) - 1) < 0.1
    )


def test_initial_values_are_the_papers() -> None:
    torch.manual_seed(0)
    wide, narrow, n, k = 768, 24, 4, 1
    layer = new_lphm(wide, narrow, n, k)
    big, full, low = new_lphm(2400, 2400, 4, 1), new_phm(wide, narrow, n), new_low_rank(wide, narrow, 1)
    assert uniform_within(layer.get_parameter("left"), math.sqrt(12 / (wide / n + k)))
    assert uniform_within(big.get_parameter("right"), math.sqrt(12 / (600 + 1)))
    assert uniform_within(full.get_parameter("weight"), math.sqrt(12 / (wide / n + narrow / n)))
    assert uniform_within(low.get_parameter("left"), math.sqrt(12 / (wide + 1)))
    assert new_phm(48, 24, 12).get_parameter("rule").std().item() == pytest.approx(0.01, rel=0.1)
    assert new_rule(12, 1e-4)["rule"].std().item() == pytest.approx(1e-4, rel=0.1)
    parts = new_rule(64, 1e-4, factorised=True)
    assert {name: tuple(p.shape) for name, p in parts.items()} == {
        "rule_left": (64, 64, 1),
        "rule_right": (64, 1, 64),
    }
    assert (parts["rule_left"] @ parts["rule_right"]).std().item() == pytest.approx(1e-4, rel=0.1)
    linear = new_dense(wide, narrow)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    for module in (layer, full, low, linear):
        assert not module.get_parameter("bias").any()


def test_glorot_reaches_every_slice() -> None:
    factors = nn.Parameter(torch.zeros(5, 30, 10))
    glorot_(factors)
    for one in factors:
        assert uniform_within(one, math.sqrt(12 / 40))
