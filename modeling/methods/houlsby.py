"""Adapter: a dense bottleneck after self-attention and after the feed-forward, and every norm.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751, as trained in
the Compacter paper (arXiv 2106.04647, `Adapter`): y + up(gelu(down(y))) with 2dr + d + r parameters,
r = d / 32, weights from N(0, 0.01), biases 0. The paper cites other sizes of r; its configurations ship 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..layers import dense
from ..ops import PackedTap
from ..sites import Tap
from .base import Layers, Shared, register
from .blocks import BLOCK_SITES, build_at, check_options, pack_dense, place
from .output_layer import may_train_output_layer


@register
@may_train_output_layer
@dataclass(frozen=True)
class Houlsby:
    """Options: the bottleneck's width (`bottleneck`, else d / `reduction_factor`), its activation, norms of
    its own before and after it, whether the backbone's norms are trained, in which layers."""

    name: ClassVar[str] = "houlsby"
    paper: ClassVar[str] = "Houlsby et al. 2019, arXiv 1902.00751"

    reduction_factor: int = 32
    bottleneck: int | None = None
    activation: str = "gelu_new"
    pre_norm: bool = False
    post_norm: bool = False
    train_norms: bool = True
    train_output_layer: bool = False
    layers: Layers = "all"

    def __post_init__(self) -> None:
        check_options(self)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Both sublayers' outputs, and the norms."""
        return place(taps, BLOCK_SITES, self.layers, norms=self.train_norms)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A dense block, or a norm that starts at the frozen one."""
        return build_at(self, tap, frozen, dense)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `bottleneck` and `norm`."""
        return pack_dense(tap, module)
