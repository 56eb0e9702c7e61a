"""Pfeiffer adapter: one dense bottleneck a layer, after self-attention only, and every norm.

Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", EACL 2021, arXiv
2005.00247, in the reading of the Compacter paper (arXiv 2106.04647): the adapters of `houlsby` after the
self-attention alone. Pfeiffer's own choice, and that of AdapterHub, is after the feed-forward alone, which
`feed_forward` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..sites import Site
from .base import METHODS
from .houlsby import Houlsby

_PLACEMENTS = {"attention": Site.ATTN_OUT, "feed_forward": Site.FFN_OUT}


@METHODS.add
@dataclass(frozen=True)
class Pfeiffer(Houlsby):
    """Options: those of `houlsby`, and after which sublayer the block sits."""

    name: ClassVar[str] = "pfeiffer"
    paper: ClassVar[str] = "Pfeiffer et al. 2021, arXiv 2005.00247"

    placement: Literal["attention", "feed_forward"] = "attention"

    @property
    def sites(self) -> frozenset[Site]:
        return frozenset({_PLACEMENTS[self.placement]})
