"""low_rank: y + x a b, beside a projection y of x (LoRA); training and serving form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..kernels import ACTIVATIONS, Block, Projection
from ..layers.product import product
from ..segments import SegmentBlock
from .base import OPS, BankParts, PackedTap, Parts, RowOp, Static, TapModule


def _update(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return product(product(x, a), b, y)


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    """x [b, L, I], y [b, L, O], a [b, I, R], b [b, R, O] -> [b, L, O]."""
    return _update(parts["a"], parts["b"], x, y)


def _rows(parts: BankParts, static: Static) -> Block:
    a, b = parts["a"], parts["b"]
    wide_in, rank = a.data.shape[1:]
    return Block(
        Projection.of("dense", a),
        Projection.of("dense", b),
        wide_in,
        rank,
        b.data.shape[2],
        ACTIVATIONS[""],
        0,
    )


def _segments(parts: BankParts, static: Static) -> SegmentBlock | None:
    a, b = parts["a"], parts["b"]
    wide_in, rank = a.data.shape[1:]
    return SegmentBlock.of({"weight_t": a}, {"weight_t": b}, wide_in, rank, b.data.shape[2])


class LowRankUpdate(TapModule):
    """Training form: y + scale x a b with a [I, R] and b [R, O], b at 0.

    `a` is uniform within +-1/sqrt(I): the Kaiming-uniform draw with a = sqrt 5 of LoRA's code and of PEFT.
    """

    op = OPS.add(RowOp("low_rank", order=2, per_row=True, apply=_apply, rows=_rows, segments=_segments))

    def __init__(self, wide_in: int, wide_out: int, rank: int, scale: float) -> None:
        super().__init__()
        bound = 1 / math.sqrt(wide_in)
        self.a = nn.Parameter(torch.empty(wide_in, rank).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(rank, wide_out))
        self.scale = scale

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return _update(self.a[None], (self.b * self.scale)[None], x, y)

    def pack(self) -> PackedTap:
        """The scale goes into b, so that all scales run together."""
        return PackedTap(self.op.name, {"a": self.a.detach(), "b": self.b.detach() * self.scale})
