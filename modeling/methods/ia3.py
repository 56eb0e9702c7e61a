"""(IA)3: keys, values and the feed-forward activation are rescaled.

Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
NeurIPS 2022, arXiv 2205.05638: l_k, l_v [H] and l_ff [F], all ones at the start, in every layer
(cross-attention included where there is one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops import PackedTap
from ..ops.affine import Affine, pack_affine
from ..sites import Site, Tap
from .base import Layers, Shared, check_layers, in_layers, register

_SITES = frozenset({Site.ATTN_K, Site.ATTN_V, Site.FFN_INNER})


@register
@dataclass(frozen=True)
class IA3:
    """Options: in which layers."""

    name: ClassVar[str] = "ia3"
    paper: ClassVar[str] = "Liu et al. 2022, arXiv 2205.05638"

    layers: Layers = "all"

    def __post_init__(self) -> None:
        check_layers(self.name, self.layers)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Keys, values and the feed-forward activation."""
        return in_layers([tap for tap in taps if tap.site in _SITES], self.layers)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A scale, at one."""
        return Affine(tap.width, scale=True, shift=False)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `affine` without a shift."""
        return pack_affine(module)
