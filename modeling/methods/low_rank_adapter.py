"""Low-rank adapter: the blocks of `houlsby` with each projection a product of two thin factors.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647 (`LowRank`): 2k(d + r) + d + r parameters
a block, k = 1. The factors are drawn Glorot-uniformly with a gain of sqrt 2, so a new block is not the
identity and not near it; that is the paper's start. The official code multiplies the factors elementwise,
which is their product for k = 1 only; here every k gives the matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from ..layers import LowRank
from ..ops import PackedTap
from ..sites import Tap
from .base import Layers, Shared, register
from .blocks import BLOCK_SITES, build_at, check_options, pack_factored, place
from .output_layer import may_train_output_layer


@register
@may_train_output_layer
@dataclass(frozen=True)
class LowRankAdapter:
    """Options: those of `houlsby`, and the rank of the projections."""

    name: ClassVar[str] = "low_rank_adapter"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"

    rank: int = 1
    reduction_factor: int = 32
    bottleneck: int | None = None
    activation: str = "gelu_new"
    pre_norm: bool = False
    post_norm: bool = False
    train_norms: bool = True
    train_output_layer: bool = False
    layers: Layers = "all"

    def __post_init__(self) -> None:
        check_options(self, rank=self.rank)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Both sublayers' outputs, and the norms."""
        return place(taps, BLOCK_SITES, self.layers, norms=self.train_norms)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A block of low-rank projections, or a norm that starts at the frozen one."""
        return build_at(self, tap, frozen, partial(LowRank, rank=self.rank))

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `kronecker` (without a rule) and `norm`."""
        return pack_factored(tap, module)
