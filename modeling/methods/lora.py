"""LoRA: an update of low rank beside the query and value projections of every attention.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685:
y + (alpha / r) x a b at the queries and values of self- and cross-attention, 2 r (in + out) an attention;
a uniform within +-1/sqrt(in), b 0, so a new update is the identity. In the file a is [in, r] and b [r, out]:
PEFT's `lora_A` and `lora_B` transposed, b without the scale. No dropout on x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..errors import MethodError
from ..ops import PackedTap
from ..ops.low_rank import LowRankUpdate, pack_low_rank
from ..sites import Site, Tap
from .base import Layers, Shared, check_layers, in_layers, register
from .blocks import at_least_one

_SITES = frozenset({Site.ATTN_Q, Site.ATTN_V})


@register
@dataclass(frozen=True)
class LoRA:
    """Options: the rank r, alpha (the update is scaled by alpha / r), in which layers."""

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2022, arXiv 2106.09685"

    rank: int = 8
    alpha: float = 16
    layers: Layers = "all"

    def __post_init__(self) -> None:
        at_least_one(self.name, "rank", self.rank)
        if type(self.alpha) not in (int, float) or not 0 < self.alpha < float("inf"):
            raise MethodError(f"method {self.name}: alpha is {self.alpha!r}; it must be a number above 0")
        check_layers(self.name, self.layers)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Queries and values, those of cross-attention included."""
        return in_layers([tap for tap in taps if tap.site in _SITES], self.layers)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """An update that is nothing yet. Raises MethodError for a rank beyond the projection's."""
        if self.rank > min(tap.dim_in, tap.dim_out):
            raise MethodError(
                f"method {self.name}: rank {self.rank} is more than the {tap.dim_in} x {tap.dim_out} matrix "
                f"at {tap.key} has; choose {min(tap.dim_in, tap.dim_out)} or less"
            )
        return LowRankUpdate(tap.dim_in, tap.dim_out, self.rank, self.alpha / self.rank)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `low_rank`."""
        return pack_low_rank(module)
