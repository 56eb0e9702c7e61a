"""Low-rank adapter: the blocks of `houlsby` with each projection a product of two thin factors.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647 (`LowRank`): 2k(d + r) + d + r parameters
a block, k = 1. The factors are drawn Glorot-uniformly with a gain of sqrt 2, so a new block is not the
identity and not near it; that is the paper's start. The official code multiplies the factors elementwise,
which is their product for k = 1 only; here every k gives the matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..layers.phm import new_low_rank
from ..sites import Tap
from .base import METHODS
from .blocks import Blocks, MakeProjection, Rank
from .options import Layers


@METHODS.add
@dataclass(frozen=True)
class LowRankAdapter(Blocks):
    """Options: those of all blocks, and the rank of the projections."""

    name: ClassVar[str] = "low_rank_adapter"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"

    rank: Rank = 1
    layers: Layers = "all"

    def projection(self, tap: Tap) -> MakeProjection:
        self.check_rank(tap, self.rank)
        return partial(new_low_rank, rank=self.rank)
