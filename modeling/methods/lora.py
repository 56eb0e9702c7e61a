"""LoRA: an update of low rank beside the query and value projections of every attention.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685:
y + (alpha / r) x a b at the queries and values of self- and cross-attention, 2 r (in + out) an attention;
a uniform within +-1/sqrt(in), b 0, so a new update is the identity. In the file a is [in, r] and b [r, out]:
PEFT's `lora_A` and `lora_B` transposed, b without the scale. No dropout on x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import nn

from ..errors import MethodError
from ..ops.low_rank import LowRankUpdate
from ..sites import Site, Tap
from .base import METHODS, Method, Shared
from .options import Layers


@METHODS.add
@dataclass(frozen=True)
class LoRA(Method):
    """Options: the rank r, alpha (the update is scaled by alpha / r), in which layers."""

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2022, arXiv 2106.09685"

    rank: Annotated[int, "1 and more, at most that of the matrix"] = 8
    alpha: Annotated[float, "a number above 0; the update is scaled by alpha / rank"] = 16
    layers: Layers = "all"

    sites = frozenset({Site.ATTN_Q, Site.ATTN_V})  # those of cross-attention included

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> LowRankUpdate:
        """An update that is nothing yet. Raises MethodError for a rank beyond the projection's."""
        if self.rank > min(tap.dim_in, tap.dim_out):
            raise MethodError(
                f"method {self.name}: rank {self.rank} is more than the {tap.dim_in} x {tap.dim_out} matrix "
                f"at {tap.key} has; choose {min(tap.dim_in, tap.dim_out)} or less"
            )
        return LowRankUpdate(tap.dim_in, tap.dim_out, self.rank, self.alpha / self.rank)
