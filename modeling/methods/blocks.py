"""What the methods with adapter blocks share: where blocks sit, which norms are trained, how wide they are.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647: blocks act on the output of the
self-attention and feed-forward sublayers, inside their residual, never on cross-attention; beside them every
norm of the backbone is trained, those of cross-attention and the last of each stack included. Encoders are
not in the paper; for them the same places are meant, before the residual and the norm. With
`train_output_layer` (Table 7) the output layer of an encoder-decoder is trained too, and the rows run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from ..errors import MethodError
from ..layers.phm import check_division, new_dense
from ..ops import TapModule
from ..ops.block import Block, BlockOptions
from ..ops.norm import Norm
from ..sites import ALL_NORM_SITES, Site, Tap
from ..weights import Named
from .base import Method, Shared
from .options import in_layers
from .output_layer import OutputLayer, output_layer_of

MakeProjection = Callable[[int, int], nn.Module]
Division = Annotated[int, "1 and more; divides the width and the bottleneck"]
Rank = Annotated[int, "1 and more, at most the width of the bottleneck (over `division`)"]


@dataclass(frozen=True)
class Blocks(BlockOptions, Method):
    """A method with blocks; beside `BlockOptions`, how wide they are and what is trained with them."""

    reduction_factor: Annotated[int, "1 and more; the bottleneck is the width over it, rounded down"] = 32
    bottleneck: Annotated[
        int | None,
        "`None`, or 1 and more: the width of the bottleneck, instead of `reduction_factor`",
    ] = None
    train_norms: bool = True
    train_output_layer: bool = False

    def projection(self, tap: Tap) -> MakeProjection:
        """What makes a projection (in, out) of the block at a tap. Raises MethodError if it does not fit."""
        return new_dense

    def shared_parts(self, shared: Shared) -> Mapping[str, tuple[str, nn.Parameter]]:
        """The parts of a block that are shared, with their names among the shared ones."""
        return {}

    @property
    def sites(self) -> frozenset[Site]:
        return frozenset({Site.ATTN_OUT, Site.FFN_OUT})

    def holds_block(self, tap: Tap) -> bool:
        return tap.site in self.sites and tap.stack != "cross"

    def weights(self, model: Named) -> OutputLayer | None:
        return output_layer_of(self.name, model) if self.train_output_layer else None

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """The sublayers' outputs, and the norms, in the chosen layers."""
        chosen = [t for t in taps if self.holds_block(t) or (self.train_norms and t.site in ALL_NORM_SITES)]
        return in_layers(chosen, self.layers)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> TapModule:
        if tap.site in ALL_NORM_SITES:
            return Norm(frozen)
        make, (wide, narrow) = self.projection(tap), self.widths(tap)
        down, up = make(wide, narrow), make(narrow, wide)
        return Block(down, up, wide, self.of_block(), self.shared_parts(shared))

    def widths(self, tap: Tap) -> tuple[int, int]:
        """Width of the backbone here and of the bottleneck. Raises MethodError if the latter is nothing."""
        narrow = self.bottleneck or tap.width // self.reduction_factor
        if narrow < 1:
            raise MethodError(
                f"method {self.name}: a width of {tap.width} at {tap.key} over the reduction_factor "
                f"{self.reduction_factor} leaves no bottleneck; lower the factor or give `bottleneck`"
            )
        return tap.width, narrow

    def check_rank(self, tap: Tap, rank: int, division: int = 1) -> None:
        """Raise MethodError for factors of a rank that adds parameters but nothing that they can express."""
        most = min(self.widths(tap)) // division
        if rank > most:
            raise MethodError(
                f"method {self.name}: rank is {rank}; at {tap.key} the factors are of rank {most} at most "
                f"(bottleneck over division); lower it"
            )

    def divided(self, tap: Tap, division: int) -> tuple[int, int]:
        """`widths` for hypercomplex projections. Raises MethodError unless the division divides both."""
        wide, narrow = self.widths(tap)
        try:
            check_division(division, wide, narrow)
        except ValueError as error:
            raise MethodError(
                f"method {self.name}: at {tap.key} the width is {wide} and the bottleneck {narrow}: {error}; "
                f"choose `division` among them, or a `bottleneck` that is a multiple of it"
            ) from error
        return wide, narrow
