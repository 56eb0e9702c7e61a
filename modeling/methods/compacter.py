"""Compacter: hypercomplex adapters of low rank that share one rule in the whole model.

Karimi Mahabadi et al., "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers", NeurIPS 2021, arXiv
2106.04647: H = sum_s kron(A_s, L_s R_s). L, R and the bias are each projection's own, the rule A [n, n, n]
belongs to all projections of all layers and stacks: 2k(d + r) + d + r parameters a block and n^3 once.
A starts at N(0, 1e-4), so that a new block is all but the identity, L and R Glorot-uniformly with a gain of
sqrt 2. In the file the rule is `shared/phm_rule`, once; the official checkpoints repeat it with every layer.

Options of the official code that the paper mentions: factors shared like the rule (`share_factors`: then only
biases are a block's own), and a rule that is a product of two factors of rank 1 (`factorised_rule`; the code
draws both from N(0, 1e-4), so that their product starts at 1e-8; here the product starts at 1e-4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops import PackedTap
from ..sites import Tap
from .base import Layers, Shared, register
from .blocks import BLOCK_SITES, check_options, pack_factored, place
from .hypercomplex import build_compacter, share_compacter
from .output_layer import may_train_output_layer


@register
@may_train_output_layer
@dataclass(frozen=True)
class Compacter:
    """Options: those of `houlsby`; `division` (n), `rank` (k); what is shared besides the rule."""

    name: ClassVar[str] = "compacter"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, arXiv 2106.04647"

    division: int = 4
    rank: int = 1
    share_factors: bool = False
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
        flags = ("share_factors", "factorised_rule")
        check_options(self, flags=flags, division=self.division, rank=self.rank)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Both sublayers' outputs, and the norms."""
        return place(taps, BLOCK_SITES, self.layers, norms=self.train_norms)

    def share(self, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
        """The rule, and the factors if they are shared."""
        return share_compacter(self, taps)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A block of low-rank PHM projections, or a norm. Raises MethodError if n does not fit."""
        return build_compacter(self, tap, frozen, shared)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `kronecker` and `norm`."""
        return pack_factored(tap, module)
