"""AdapterDrop: dense bottlenecks in the upper layers only; the norms of all layers are trained.

Rücklé et al., "AdapterDrop: On the Efficiency of Adapters in Transformers", EMNLP 2021, arXiv 2010.11918,
as trained in the Compacter paper (arXiv 2106.04647): the adapters of `houlsby` in the layers from 5 on of
each stack, on T5-small in layer 5 alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from ..errors import MethodError
from ..sites import Tap
from .base import METHODS
from .blocks import Blocks
from .options import Whole


@METHODS.add
@dataclass(frozen=True)
class AdapterDrop(Blocks):
    """Options: those of `houlsby`, with the first layer that has blocks instead of a choice of layers."""

    name: ClassVar[str] = "adapter_drop"
    paper: ClassVar[str] = "Rücklé et al. 2021, arXiv 2010.11918"

    first_layer: Annotated[int, Whole(0), "0 to the last layer"] = 5

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Sublayer outputs from the first layer on, and all norms. Raises MethodError if none is left."""
        placed = super().select(taps)
        kept = [tap for tap in placed if not self.holds_block(tap) or tap.layer >= self.first_layer]
        if not any(map(self.holds_block, kept)):
            last = max((tap.layer for tap in placed if self.holds_block(tap)), default=0)
            raise MethodError(
                f"method {self.name}: first_layer is {self.first_layer}, but this backbone's last layer is "
                f"{last}, so no layer is left for adapters; lower first_layer to {last} or less"
            )
        return kept
