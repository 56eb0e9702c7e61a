"""PHM-Adapter: the blocks of `houlsby` with hypercomplex projections, each with a rule of its own.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647, on the PHM layers of Zhang et al., ICLR
2021, arXiv 2102.08597: H = sum_s kron(A_s, B_s), 2n^3 + 2dr/n + d + r parameters a block. The rule starts at
N(0, 0.01); the official option `phm_init_range` does not reach it. The official configuration has n = 12,
which does not divide T5-small's 512 and 16; the default here is n = 4, which divides the widths of every
usual backbone and is in the paper's tables too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..layers.phm import new_phm
from ..sites import Tap
from .base import METHODS
from .blocks import Blocks, Division, MakeProjection
from .options import Layers


@METHODS.add
@dataclass(frozen=True)
class PHMAdapter(Blocks):
    """Options: those of all blocks, the number of Kronecker products `division` (n), and whether each rule is
    a product of two factors [n, n, 1] and [n, 1, n]."""

    name: ClassVar[str] = "phm"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"

    division: Division = 4
    factorised_rule: bool = False
    layers: Layers = "all"

    def projection(self, tap: Tap) -> MakeProjection:
        self.divided(tap, self.division)
        return partial(new_phm, n=self.division, factorised_rule=self.factorised_rule)
