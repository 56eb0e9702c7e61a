"""AdapterDrop: dense bottlenecks in the upper layers only; the norms of all layers are trained.

Rücklé et al., "AdapterDrop: On the Efficiency of Adapters in Transformers", EMNLP 2021, arXiv 2010.11918,
as trained in the Compacter paper (arXiv 2106.04647): the adapters of `houlsby` in the layers from 5 on of
each stack, on T5-small in layer 5 alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..errors import MethodError
from ..layers import dense
from ..ops import PackedTap
from ..sites import Tap
from .base import Shared, register
from .blocks import BLOCK_SITES, build_at, check_options, is_block, pack_dense, place
from .output_layer import may_train_output_layer


@register
@may_train_output_layer
@dataclass(frozen=True)
class AdapterDrop:
    """Options: those of `houlsby`, with the first layer that has blocks instead of a choice of layers."""

    name: ClassVar[str] = "adapter_drop"
    paper: ClassVar[str] = "Rücklé et al. 2021, arXiv 2010.11918"

    first_layer: int = 5
    reduction_factor: int = 32
    bottleneck: int | None = None
    activation: str = "gelu_new"
    pre_norm: bool = False
    post_norm: bool = False
    train_norms: bool = True
    train_output_layer: bool = False

    def __post_init__(self) -> None:
        if type(self.first_layer) is not int or self.first_layer < 0:
            raise MethodError(
                f"method {self.name}: first_layer is {self.first_layer!r}; give a whole number, 0 or more"
            )
        check_options(self)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Sublayer outputs from the first layer on, and all norms. Raises MethodError if none is left."""
        placed = place(taps, BLOCK_SITES, "all", norms=self.train_norms)
        kept = [tap for tap in placed if not is_block(tap) or tap.layer >= self.first_layer]
        if not any(is_block(tap) for tap in kept):
            last = max((tap.layer for tap in placed if is_block(tap)), default=0)
            raise MethodError(
                f"method {self.name}: first_layer is {self.first_layer}, but this backbone's last layer is "
                f"{last}, so no layer is left for adapters; lower first_layer to {last} or less"
            )
        return kept

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """A dense block, or a norm that starts at the frozen one."""
        return build_at(self, tap, frozen, dense)

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """To `bottleneck` and `norm`."""
        return pack_dense(tap, module)
