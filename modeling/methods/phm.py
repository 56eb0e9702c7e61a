"""PHM-Adapter: the blocks of `houlsby` with hypercomplex projections, each with a rule of its own.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647, on the PHM layers of Zhang et al., ICLR
2021, arXiv 2102.08597: H = sum_s kron(A_s, B_s), 2n^3 + 2dr/n + d + r parameters a block. The rule starts at
N(0, 0.01); the official option `phm_init_range` does not reach it. The official configuration has n = 12,
which does not divide T5-small's 512 and 16; the default here is n = 4, which divides the widths of every
usual backbone and is in the paper's tables too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from ..layers import PHM
from ..ops import PackedTap
from ..sites import Tap
from .base import Layers, Shared, register
from .blocks import BLOCK_SITES, build_at, check_options, divided, is_block, pack_factored, place
from .output_layer import may_train_output_layer


@register
@may_train_output_layer
@dataclass(frozen=True)
class PHMAdapter:
    """Options: those of `houlsby`, the number of Kronecker products `division` (n), and whether each rule is
    a product of two factors [n, n, 1] and [n, 1, n]."""

    name: ClassVar[str] = "phm"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"

    division: int = 4
    factorised_rule: bool = False
    reduction_factor: int = 32
    bottleneck: int | None = None
    activation: str = "gelu_new"
    pre_norm: bool = False
    post_norm: bool = False
    train_norms: bool = True
    train_output_layer: bool = False
    layers: Layers = "all"

    def __post_init__(self) -> None:
        check_options(self, flags=("factorised_rule",), division=self.division)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Both sublayers' outputs, and the norms."""
        return place(taps, BLOCK_SITES, self.layers, norms=self.train_norms)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A block of PHM projections, or a norm. Raises MethodError if n does not divide the widths."""
        if is_block(tap):
            divided(self, tap, self.division)
        projection = partial(PHM, n=self.division, factorised_rule=self.factorised_rule)
        return build_at(self, tap, frozen, projection)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `kronecker` and `norm`."""
        return pack_factored(tap, module)
