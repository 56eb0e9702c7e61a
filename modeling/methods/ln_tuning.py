"""LN-tuning: only the gain and the bias of the layers' norms are trained.

Qi et al., "Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models", 2022,
arXiv 2211.08682: both norms of every layer, 4 H L. The embedding norm stays frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops.norm import Norm
from ..sites import NORM_SITES, Tap
from .base import METHODS, Method, Shared
from .options import Layers


@METHODS.add
@dataclass(frozen=True)
class LNTuning(Method):
    """Options: in which layers."""

    name: ClassVar[str] = "ln_tuning"
    paper: ClassVar[str] = "Qi et al. 2022, arXiv 2211.08682"

    layers: Layers = "all"

    sites = NORM_SITES

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> Norm:
        return Norm(frozen)
