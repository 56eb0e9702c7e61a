"""Attention inside each row of a packed batch by the bounds in a buffer: q, k, v [T, h, D] -> [T, h, D]."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attention(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """`bounds` int32 [R + 1], no row longer than `longest`. What padding gets is not defined."""
    if not q.is_cuda:
        return _by_rows(q, k, v, bounds)
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x.contiguous() for x in (q, k, v))
    out = varlen_attn(q, k, v, bounds, bounds, longest, longest)
    assert isinstance(out, Tensor), "varlen_attn returned a tuple without being asked to: this is a bug"
    return out


def _by_rows(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor) -> Tensor:
    """Row by row; padding gets NaN, the worst that memory without a value may hold."""
    out = torch.full_like(q, float("nan"))
    for start, stop in pairwise(bounds.tolist()):
        if stop > start:
            queries, keys, values = (x[start:stop].transpose(0, 1)[None] for x in (q, k, v))
            own = scaled_dot_product_attention(queries, keys, values)
            out[start:stop] = own[0].transpose(0, 1)
    return out
