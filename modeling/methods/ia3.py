"""(IA)3: keys, values and the feed-forward activation are rescaled.

Liu et al., "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
NeurIPS 2022, arXiv 2205.05638: l_k, l_v [H] and l_ff [F], all ones at the start, in every layer
(cross-attention included where there is one).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops.affine import Affine
from ..sites import Site, Tap
from .base import METHODS, Method, Shared
from .options import Layers


@METHODS.add
@dataclass(frozen=True)
class IA3(Method):
    """Options: in which layers."""

    name: ClassVar[str] = "ia3"
    paper: ClassVar[str] = "Liu et al. 2022, arXiv 2205.05638"

    layers: Layers = "all"

    sites = frozenset({Site.ATTN_K, Site.ATTN_V, Site.FFN_INNER})

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> Affine:
        return Affine(tap.width, scale=True, shift=False)
