"""The segment kernels in torch: what the Triton kernels must compute, and what runs on a CPU.

A block goes row by row and reads on the host where rows lie, so no GPU can record it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..layers.phm import project
from ..part import Part
from .calls import Operand, SegmentBlock, SegmentKernels, Segments, SegmentScales


class TorchSegments(SegmentKernels):
    """Plain torch."""

    def scale(self, y: Tensor, at: Segments, by: SegmentScales) -> None:
        y.copy_(_scaled(y.float(), at, by))

    def norm(
        self,
        y: Tensor,
        residual: Tensor,
        at: Segments,
        own: SegmentScales,
        eps: float,
        then: SegmentScales | None = None,
    ) -> Tensor:
        x = y.float() + residual.float()
        x = _scaled(F.layer_norm(x, x.shape[-1:], eps=eps), at, own)
        return (x if then is None else _scaled(x, at, then)).to(y.dtype)

    def block(self, x: Tensor, y: Tensor, at: Segments, block: SegmentBlock) -> None:
        bounds = at.bounds.tolist()
        for row, slot in enumerate(at.slots[:-1].tolist()):
            down, up = _of_slot(block.down, slot), _of_slot(block.up, slot)
            own = slice(bounds[row], bounds[row + 1])
            if down is not None and up is not None and own.stop > own.start:
                inner = _activated(project(down, x[None, own]), block.activation)
                y[own] = project(up, inner, y[None, own])[0]


def _scaled(x: Tensor, at: Segments, by: SegmentScales) -> Tensor:
    """x [T, D] in float32."""
    scale, shift = (_by_token(one, at) for one in (by.scale, by.shift))
    if scale is None:
        return x if shift is None else x + shift
    return x * scale if shift is None else torch.addcmul(shift, x, scale)


def _by_token(operand: Operand | None, at: Segments) -> Tensor | None:
    """[T, D], or [1, D] for all."""
    if operand is None or isinstance(operand, Tensor):
        return None if operand is None else operand.float()[None]
    rows = operand.index.index_select(0, at.slots)
    return operand.data.index_select(0, rows.index_select(0, at.row_of_token))


def _of_slot(parts: Mapping[str, Part], slot: int) -> dict[str, Tensor] | None:
    """The parts of one slot, each [1, ...]; None if it lacks one: it has another kind of adapter, or none."""
    rows = {name: int(part.index[slot]) for name, part in parts.items()}
    return {name: part.data[rows[name]][None] for name, part in parts.items()} if all(rows.values()) else None


def _activated(x: Tensor, name: str) -> Tensor:
    match name:
        case "":
            return x
        case "relu":
            return F.relu(x)
        case "swish":
            return F.silu(x)
    return F.gelu(x, approximate="tanh" if name == "gelu_new" else "none")
