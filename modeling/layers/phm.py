"""Parameterised hypercomplex multiplication: projections whose matrix is a sum of Kronecker products.

Zhang et al., "Beyond Fully-Connected Layers with Quaternions: Parameterization of Hypercomplex
Multiplications with 1/n Parameters", ICLR 2021, arXiv 2102.08597 (PHM); Karimi Mahabadi et al., "Compacter:
Efficient Low-Rank Hypercomplex Adapter Layers", NeurIPS 2021, arXiv 2106.04647 (LPHM, low rank).

Orientation: y = x H + bias with H (in, out) = sum_s kron(A_s, B_s); A is the rule [n, n, n], B the blocks
[n, in/n, out/n], for LPHM B_s = L_s R_s with left factors [n, in/n, k] and right factors [n, k, out/n].
With x seen as n rows X [n, in/n] that is Y = sum_s A_s^T X B_s; the matrix H is never kept.

In functions every parameter has a leading b: a set of parameters for each row of a batch, or 1 for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .product import product

DENSE_STD = 0.01
OWN_RULE_STD = 0.01
SHARED_RULE_STD = 1e-4
_FACTOR_GAIN = math.sqrt(2)
_FEW_TOKENS = 8  # times n; where the two ways of `phm` took equally long on a CPU


def kronecker_sum(rule: Tensor, blocks: Tensor) -> Tensor:
    """rule [..., n, p, q], blocks [..., n, i, o] -> sum_s kron(rule_s, blocks_s) [..., p i, q o]."""
    lead, (p, q), (i, o) = rule.shape[:-3], rule.shape[-2:], blocks.shape[-2:]
    products = (rule.flatten(-2).mT @ blocks.flatten(-2)).view(*lead, p, q, i, o)
    return products.transpose(-3, -2).reshape(*lead, p * i, q * o)


def phm(x: Tensor, rule: Tensor, blocks: Tensor, onto: Tensor | None = None) -> Tensor:
    """onto + x sum_s kron(rule_s, blocks_s).

    x [b, L, n I], rule [b, n, n, n], blocks [b, n, I, O], onto as [b, L, n O] -> [b, L, n O].
    The blocks have full rank, so no order of products needs fewer multiplications per token than the matrix
    itself. Making it costs as much as n tokens do, so for many tokens a call makes it, uses it and drops it;
    a few tokens per row (a decoder's step) go through the factors.
    """
    if rule.shape[0] == 1 or x.shape[-2] > _FEW_TOKENS * rule.shape[-1]:
        return product(x, kronecker_sum(rule, blocks), onto)
    y = _phm_by_factors(x, rule, blocks)
    return y if onto is None else onto + y


def _phm_by_factors(x: Tensor, rule: Tensor, blocks: Tensor) -> Tensor:
    """x [b, L, n I], rule [b, n, n, n], blocks [b, n, I, O] -> [b, L, n O]; the rule on the narrow side."""
    b, n, wide_in, wide_out = blocks.shape
    rule, tokens = rule.to(x.dtype), x.shape[:-1]
    if wide_in >= wide_out:
        thin = blocks.transpose(1, 2).reshape(b, wide_in, n * wide_out)
        rows = product(_split(x, n), thin).view(*tokens, n * n, wide_out)  # [b, L, p s, O]
        return torch.matmul(rule.permute(0, 3, 2, 1).reshape(b, 1, n, n * n), rows).flatten(-2)
    mixing = rule.permute(0, 3, 1, 2).reshape(b, 1, n * n, n)
    rows = torch.matmul(mixing, x.reshape(*tokens, n, wide_in))  # [b, L, q s, I]
    y = product(rows.view(b, -1, n * wide_in), blocks.reshape(b, n * wide_in, wide_out))
    return y.view(*tokens, n * wide_out)


def lphm(x: Tensor, rule: Tensor, left: Tensor, right: Tensor, onto: Tensor | None = None) -> Tensor:
    """onto + x sum_s kron(rule_s, left_s right_s), factored.

    x [b, L, n I], rule [b, n, n, n], left [b, n, I, k], right [b, n, k, O], onto as [b, L, n O]
    -> [b, L, n O].
    Two products; the rule is first joined with the factor on the narrow side, where that costs least.
    """
    n, wide_in, rank = left.shape[1:]
    wide_out, tokens = right.shape[3], x.shape[:-1]
    if wide_in >= wide_out:
        thin = left.transpose(1, 2).reshape(-1, wide_in, n * rank)
        mixed = rule.transpose(1, 2)[:, :, :, None, :, None] * right[:, None, :, :, None]
        mixed = mixed.reshape(-1, n * n * rank, n * wide_out)  # [b, p s k, q O]
        rows = product(_split(x, n), thin)  # [b, L n, n k]
        return product(rows.view(*tokens, n * n * rank), mixed, onto)
    mixed = rule.permute(0, 2, 3, 1)[:, :, None, :, :, None] * left.transpose(1, 2)[:, None, :, None]
    mixed = mixed.reshape(-1, n * wide_in, n * n * rank)  # [b, p I, q s k]
    rows = _split(product(x, mixed), n)  # [b, L n, n k]
    spread = None if onto is None else _split(onto.expand(*tokens, n * wide_out), n)
    return product(rows, right.reshape(-1, n * rank, wide_out), spread).view(*tokens, n * wide_out)


def _split(x: Tensor, n: int) -> Tensor:
    """x [b, L, n I] -> [b, L n, I]."""
    return x.reshape(*x.shape[:-2], -1, x.shape[-1] // n)


def project(parts: Mapping[str, Tensor], x: Tensor, onto: Tensor | None = None) -> Tensor:
    """onto + x H + bias for whatever projection `parts` describe; x [b, L, in] -> [b, L, out].

    `weight` [b, out, in]                             dense, as in torch
    `weight_t` [b, in, out]                           dense
    `weight` [b, n, in/n, out/n] and `rule`           PHM
    `left` [b, n, in/n, k], `right` [b, n, k, out/n] and `rule`     LPHM
    `left` [b, in, k], `right` [b, k, out]            low rank
    and `bias` [b, out] where there is one. For `rule` [b, n, n, n] there may stand its factors, `rule_left`
    [b, n, n, r] and `rule_right` [b, n, r, n].
    """
    if "bias" in parts:
        bias = parts["bias"].to(x.dtype)[:, None]
        onto = bias if onto is None else onto + bias
    rule = _rule(parts)
    if "weight_t" in parts:
        return product(x, parts["weight_t"], onto)
    if "left" not in parts:
        weight = parts["weight"]
        return product(x, weight.mT, onto) if rule is None else phm(x, rule, weight, onto)
    left, right = parts["left"], parts["right"]
    if rule is None:
        return product(product(x, left), right, onto)
    return lphm(x, rule, left, right, onto)


def _rule(parts: Mapping[str, Tensor]) -> Tensor | None:
    if "rule_left" in parts:
        return parts["rule_left"] @ parts["rule_right"]
    return parts.get("rule")


def glorot_(factors: Tensor) -> Tensor:
    """Fill [..., rows, columns] slice by slice: uniform within +-sqrt(12 / (rows + columns)), gain sqrt 2."""
    bound = _FACTOR_GAIN * math.sqrt(6 / (factors.shape[-2] + factors.shape[-1]))
    return nn.init.uniform_(factors, -bound, bound)


def new_rule(n: int, std: float, *, factorised: bool = False) -> dict[str, nn.Parameter]:
    """A rule [n, n, n] from N(0, std), or its factors `rule_left` [n, n, 1] and `rule_right` [n, 1, n].

    The factors are drawn so that their product has that deviation. The official code draws either of them
    with it, so that the product starts at std squared, 1e-8, where nothing can be learnt from.
    """
    if not factorised:
        return {"rule": nn.Parameter(torch.empty(n, n, n).normal_(std=std))}
    root = math.sqrt(std)
    return {
        "rule_left": nn.Parameter(torch.empty(n, n, 1).normal_(std=root)),
        "rule_right": nn.Parameter(torch.empty(n, 1, n).normal_(std=root)),
    }


def new_factors(wide_in: int, wide_out: int, n: int, rank: int) -> dict[str, nn.Parameter]:
    """`left` [n, in/n, k] and `right` [n, k, out/n], drawn. Raises ValueError unless n divides both."""
    check_division(n, wide_in, wide_out)
    return {
        "left": nn.Parameter(glorot_(torch.empty(n, wide_in // n, rank))),
        "right": nn.Parameter(glorot_(torch.empty(n, rank, wide_out // n))),
    }


def check_division(n: int, wide_in: int, wide_out: int) -> None:
    """Raise ValueError unless n divides both widths; the message says what would."""
    if n < 1 or wide_in % n or wide_out % n:
        both = math.gcd(wide_in, wide_out)
        allowed = ", ".join(str(i) for i in range(1, both + 1) if both % i == 0)
        raise ValueError(f"the division {n} must divide {wide_in} and {wide_out}; these do: {allowed}")


class Projection(nn.Module):
    """The parameters of a projection, by the names that `project` reads; without what it shares."""

    def __init__(self, parts: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parts.items():
            self.register_parameter(name, parameter)


def new_dense(wide_in: int, wide_out: int) -> nn.Linear:
    """An ordinary projection with the adapter's initial values: weight from N(0, 0.01), bias 0."""
    layer = nn.Linear(wide_in, wide_out)
    nn.init.normal_(layer.weight, std=DENSE_STD)
    nn.init.zeros_(layer.bias)
    return layer


def new_phm(wide_in: int, wide_out: int, n: int, *, factorised_rule: bool = False) -> Projection:
    """`weight` [n, in/n, out/n] drawn by `glorot_`, a rule of its own, `bias` at 0."""
    check_division(n, wide_in, wide_out)
    weight = nn.Parameter(glorot_(torch.empty(n, wide_in // n, wide_out // n)))
    rule = new_rule(n, OWN_RULE_STD, factorised=factorised_rule)
    return Projection({"weight": weight, **rule, "bias": _new_bias(wide_out)})


def new_lphm(wide_in: int, wide_out: int, n: int, rank: int, *, own_factors: bool = True) -> Projection:
    """`left` and `right` as in `new_factors`, or none of its own, and `bias` at 0; the rule is shared."""
    factors = new_factors(wide_in, wide_out, n, rank)  # drawn in any case: what a seed means stays
    return Projection({**(factors if own_factors else {}), "bias": _new_bias(wide_out)})


def new_low_rank(wide_in: int, wide_out: int, rank: int) -> Projection:
    """`left` [in, k] and `right` [k, out] drawn by `glorot_`, `bias` at 0.

    The official code multiplies the factors elementwise, which is their product for k = 1 only; here it is
    the matrix product for every k.
    """
    factors = new_factors(wide_in, wide_out, 1, rank).items()
    own = {name: nn.Parameter(part.detach()[0]) for name, part in factors}
    return Projection({**own, "bias": _new_bias(wide_out)})


def _new_bias(width: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(width))
