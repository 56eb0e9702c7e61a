"""Pfeiffer adapter: one dense bottleneck a layer, after self-attention only, and every norm.

Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", EACL 2021, arXiv
2005.00247, in the reading of the Compacter paper (arXiv 2106.04647): the adapters of `houlsby` after the
self-attention alone. Pfeiffer's own choice, and that of AdapterHub, is after the feed-forward alone, which
`feed_forward` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from ..layers import dense
from ..ops import PackedTap
from ..sites import Site, Tap
from .base import Layers, Shared, one_of, register
from .blocks import build_at, check_options, pack_dense, place
from .output_layer import may_train_output_layer

_PLACEMENTS = {"attention": Site.ATTN_OUT, "feed_forward": Site.FFN_OUT}


@register
@may_train_output_layer
@dataclass(frozen=True)
class Pfeiffer:
    """Options: those of `houlsby`, and after which sublayer the block sits."""

    name: ClassVar[str] = "pfeiffer"
    paper: ClassVar[str] = "Pfeiffer et al. 2021, arXiv 2005.00247"

    placement: Literal["attention", "feed_forward"] = "attention"
    reduction_factor: int = 32
    bottleneck: int | None = None
    activation: str = "gelu_new"
    pre_norm: bool = False
    post_norm: bool = False
    train_norms: bool = True
    train_output_layer: bool = False
    layers: Layers = "all"

    def __post_init__(self) -> None:
        one_of(self.name, "placement", self.placement, _PLACEMENTS)
        check_options(self)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """One sublayer's outputs, and the norms."""
        sites = frozenset({_PLACEMENTS[self.placement]})
        return place(taps, sites, self.layers, norms=self.train_norms)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A dense block, or a norm that starts at the frozen one."""
        return build_at(self, tap, frozen, dense)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `bottleneck` and `norm`."""
        return pack_dense(tap, module)
