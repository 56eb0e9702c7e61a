"""affine: y * scale + shift, element by element (Hadamard, IA3, BitFit); training and serving form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels import Scales
from ..segments import SegmentScales
from ..sites import Tap
from .base import OPS, BankParts, Parts, RowOp, Static, TapModule


def _affine(scale: Tensor | None, shift: Tensor | None, y: Tensor) -> Tensor:
    if scale is None:
        return y if shift is None else y + shift
    return y * scale if shift is None else torch.addcmul(shift, y, scale)


def _identity(tap: Tap, frozen: nn.Module) -> dict[str, Tensor]:
    return {"scale": torch.ones(tap.width), "shift": torch.zeros(tap.width)}


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    return _affine(parts.get("scale"), parts.get("shift"), y)


def _rows(parts: BankParts, static: Static) -> Scales:
    return Scales.of(parts.get("scale"), parts.get("shift"))


def _segments(parts: BankParts, static: Static) -> SegmentScales:
    return SegmentScales(parts.get("scale"), parts.get("shift"))


class Affine(TapModule):
    """Training form: `y * scale + shift`, scale [D] at ones and shift [D] at zeros; either may be absent."""

    op = OPS.add(
        RowOp(
            "affine",
            order=1,
            identity=_identity,
            apply=_apply,
            rows=_rows,
            segments=_segments,
            adds=frozenset({"shift"}),
        )
    )

    def __init__(self, width: int, *, scale: bool, shift: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width)) if scale else None
        self.shift = nn.Parameter(torch.zeros(width)) if shift else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return _affine(self.scale, self.shift, y)
