"""Compacter++: the blocks of `compacter` after the feed-forward only.

Karimi Mahabadi et al., "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers", NeurIPS 2021, arXiv
2106.04647: half of Compacter's blocks, nothing else changes; every norm is trained. AdapterHub's
configuration of that name is another thing: its block reads the state after the residual and, in BERT, after
the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops import PackedTap
from ..sites import Site, Tap
from .base import Layers, Shared, register
from .blocks import check_options, pack_factored, place
from .hypercomplex import build_compacter, share_compacter
from .output_layer import may_train_output_layer


@register
@may_train_output_layer
@dataclass(frozen=True)
class CompacterPlusPlus:
    """Options: those of `compacter`."""

    name: ClassVar[str] = "compacter_pp"
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
        """The feed-forward outputs, and the norms."""
        return place(taps, frozenset({Site.FFN_OUT}), self.layers, norms=self.train_norms)

    def share(self, taps: Sequence[Tap]) -> dict[str, nn.Parameter]:
        """The rule, and the factors if they are shared."""
        return share_compacter(self, taps)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A block of low-rank PHM projections, or a norm. Raises MethodError if n does not fit."""
        return build_compacter(self, tap, frozen, shared)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `kronecker` and `norm`."""
        return pack_factored(tap, module)
