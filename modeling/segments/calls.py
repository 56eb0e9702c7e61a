"""What row ops are on packed segments, and what computes them.

R rows, T tokens with padding, D width. Rows lie one behind another; behind the last one is padding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..part import Part

Operand = Part | Tensor  # of a bank, or a tensor [D] that all rows have
MAX_NARROW = 128  # of a block; tiles of a larger one do not fit the shared memory of every GPU


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Where rows lie, and under which slots, in buffers that stay where they are.

    Row i has tokens `bounds[i]` to `bounds[i + 1]` (int32 [R + 1]) under `slots[i]` (int64 [R + 1]); absent
    rows are empty. Padding tokens are of row R in `row_of_token` (int64 [T]), under slot 0.
    """

    bounds: Tensor
    slots: Tensor
    row_of_token: Tensor

    @property
    def num_rows(self) -> int:
        """R, rows that are not there included."""
        return len(self.bounds) - 1


class SegmentCall(Protocol):
    """What an op asks of the kernels at a tap; y [T, O] changes in place."""

    def act(self, kernels: SegmentKernels, at: Segments, x: Tensor, y: Tensor) -> None:
        """x [T, I] is the module's input, which may be y."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentScales:
    """y * scale + shift, each where it is there; behind a norm, the gain and bias of every row."""

    scale: Operand | None
    shift: Operand | None

    def act(self, kernels: SegmentKernels, at: Segments, x: Tensor, y: Tensor) -> None:
        kernels.scale(y, at, self)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentBlock:
    """y += up(activation(down(x))) in the rows that have these parts; `of_y`: down(y).

    `down` and `up` have the parts of `layers.phm.project`, dense weights as `weight_t`. Sizes: `wide_in` ->
    `narrow` -> `wide_out`. `activation` is a name of `kernels.ACTIVATIONS`.
    """

    down: Mapping[str, Part]
    up: Mapping[str, Part]
    wide_in: int
    narrow: int
    wide_out: int
    activation: str = ""
    of_y: bool = False

    @classmethod
    def of(
        cls,
        down: Mapping[str, Part],
        up: Mapping[str, Part],
        wide_in: int,
        narrow: int,
        wide_out: int,
        activation: str = "",
        *,
        of_y: bool = False,
    ) -> SegmentBlock | None:
        """None if it is too large in the middle."""
        return None if narrow > MAX_NARROW else cls(down, up, wide_in, narrow, wide_out, activation, of_y)

    def act(self, kernels: SegmentKernels, at: Segments, x: Tensor, y: Tensor) -> None:
        kernels.block(y if self.of_y else x, y, at, self)


class SegmentKernels(ABC):
    """Numbers of banks are float32; results have the type of y, sums are made in float32."""

    @abstractmethod
    def scale(self, y: Tensor, at: Segments, by: SegmentScales) -> None:
        """y [T, D] becomes y * scale + shift."""

    @abstractmethod
    def norm(
        self,
        y: Tensor,
        residual: Tensor,
        at: Segments,
        own: SegmentScales,
        eps: float,
        then: SegmentScales | None = None,
    ) -> Tensor:
        """norm(y + residual) with gain and bias, then scaled and shifted: [T, D], a new tensor."""

    @abstractmethod
    def block(self, x: Tensor, y: Tensor, at: Segments, block: SegmentBlock) -> None:
        """y [T, O] += up(activation(down(x))) in the rows that have its parts; x [T, I] may be y."""
