"""LN-tuning: only the gain and the bias of the layers' norms are trained.

Qi et al., "Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models", 2022,
arXiv 2211.08682: both norms of every layer, 4 H L. The embedding norm stays frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops import PackedTap
from ..ops.norm import Norm, pack_norm
from ..sites import NORM_SITES, Tap
from .base import Layers, Shared, check_layers, in_layers, register


@register
@dataclass(frozen=True)
class LNTuning:
    """Options: in which layers."""

    name: ClassVar[str] = "ln_tuning"
    paper: ClassVar[str] = "Qi et al. 2022, arXiv 2211.08682"

    layers: Layers = "all"

    def __post_init__(self) -> None:
        check_layers(self.name, self.layers)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Every norm inside a layer."""
        return in_layers([tap for tap in taps if tap.site in NORM_SITES], self.layers)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A norm that starts at the frozen one."""
        return Norm(frozen)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `norm`."""
        return pack_norm(module)
