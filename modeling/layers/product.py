"""A matrix product with a matrix per row of a batch, in one kernel."""

from __future__ import annotations

import torch
from torch import Tensor


def product(x: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
    """onto + x weight, in the type of x.

    x [b, L, I] and weight [b, I, O], or x of any leading shape and weight [1, I, O]: the same for all, then
    it is one plain matrix product. `onto` broadcasts to the result [b, L, O].
    """
    weight = weight.to(x.dtype)
    if weight.shape[0] != 1:
        return torch.bmm(x, weight) if onto is None else torch.baddbmm(onto, x, weight)
    if onto is None:
        return x @ weight[0]
    width = weight.shape[-1]
    # A vector is added inside the product's kernel, a matrix is copied before it.
    added = onto.flatten() if onto.numel() == width else onto.reshape(-1, width)
    flat = torch.addmm(added, x.reshape(-1, x.shape[-1]), weight[0])
    return flat.view(*x.shape[:-1], width)
