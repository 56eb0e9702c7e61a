"""What the methods with adapter blocks share: where blocks sit, which norms are trained, how wide they are.

Karimi Mahabadi et al., "Compacter", NeurIPS 2021, arXiv 2106.04647: blocks act on the output of the
self-attention and feed-forward sublayers, inside their residual, never on cross-attention; beside them every
norm of the backbone is trained, those of cross-attention and the last of each stack included. Encoders are
not in the paper; for them the same places are meant, before the residual and the norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import nn

from ..errors import MethodError
from ..layers import ACTIVATIONS, AdapterBlock
from ..layers.phm import check_division
from ..ops import PackedTap
from ..ops.bottleneck import pack_bottleneck
from ..ops.kronecker import pack_kronecker
from ..ops.norm import Norm, pack_norm
from ..sites import ALL_NORM_SITES, Site, Tap
from .base import Layers, check_layers, in_layers, one_of

BLOCK_SITES = frozenset({Site.ATTN_OUT, Site.FFN_OUT})
Projection = Callable[[int, int], nn.Module]


class BlockMethod(Protocol):
    """The options that every method with adapter blocks has."""

    @property
    def name(self) -> str:
        """The method."""

    @property
    def reduction_factor(self) -> int:
        """Width of the backbone over width of the bottleneck."""

    @property
    def bottleneck(self) -> int | None:
        """Width of the bottleneck; instead of the factor."""

    @property
    def activation(self) -> str:
        """One of `ACTIVATIONS`."""

    @property
    def pre_norm(self) -> bool:
        """Whether the block starts with a LayerNorm of its own."""

    @property
    def post_norm(self) -> bool:
        """Whether the block ends with one."""

    @property
    def train_norms(self) -> bool:
        """Whether the backbone's norms are trained as well."""

    @property
    def train_output_layer(self) -> bool:
        """Whether the output layer of an encoder-decoder is, too (see `output_layer.py`)."""


def check_options(method: BlockMethod, *, flags: Sequence[str] = (), **more: int) -> None:
    """Raise MethodError for an option of the wrong kind; `flags` and `more` (numbers) are extra ones."""
    numbers = {"reduction_factor": method.reduction_factor, **more}
    if method.bottleneck is not None:
        numbers["bottleneck"] = method.bottleneck
    for option, value in numbers.items():
        at_least_one(method.name, option, value)
    one_of(method.name, "activation", method.activation, ACTIVATIONS)
    for option in ("pre_norm", "post_norm", "train_norms", "train_output_layer", *flags):
        is_flag(method.name, option, getattr(method, option))
    check_layers(method.name, getattr(method, "layers", "all"))


def at_least_one(method: str, option: str, value: Any) -> None:
    """Raise MethodError unless `value` is a whole number from 1 on."""
    if type(value) is not int or value < 1:
        raise MethodError(f"method {method}: {option} is {value!r}; it must be a whole number, 1 or more")


def is_flag(method: str, option: str, value: Any) -> None:
    """Raise MethodError unless `value` is true or false."""
    if type(value) is not bool:
        raise MethodError(f"method {method}: {option} is {value!r}; it must be true or false")


def is_block(tap: Tap, sites: frozenset[Site] = BLOCK_SITES) -> bool:
    """Whether a block may sit here."""
    return tap.site in sites and tap.stack != "cross"


def place(taps: Sequence[Tap], sites: frozenset[Site], layers: Layers, *, norms: bool) -> list[Tap]:
    """The taps of blocks at `sites` and of the norms (if `norms`), in the chosen layers."""
    chosen = [t for t in taps if is_block(t, sites) or (norms and t.site in ALL_NORM_SITES)]
    return in_layers(chosen, layers)


def widths(method: BlockMethod, tap: Tap) -> tuple[int, int]:
    """Width of the backbone here and of the bottleneck. Raises MethodError if the latter is nothing."""
    narrow = method.bottleneck or tap.width // method.reduction_factor
    if narrow < 1:
        raise MethodError(
            f"method {method.name}: a width of {tap.width} at {tap.key} over the reduction_factor "
            f"{method.reduction_factor} leaves no bottleneck; lower the factor or give `bottleneck`"
        )
    return tap.width, narrow


def check_rank(method: BlockMethod, tap: Tap) -> None:
    """Raise MethodError for factors of a rank that adds parameters but nothing that they can express."""
    rank, division = getattr(method, "rank", 1), getattr(method, "division", 1)
    most = min(widths(method, tap)) // division
    if rank > most:
        raise MethodError(
            f"method {method.name}: rank is {rank}; at {tap.key} the factors are of rank {most} at most "
            f"(bottleneck over division); lower it"
        )


def divided(method: BlockMethod, tap: Tap, division: int) -> tuple[int, int]:
    """`widths` for hypercomplex projections. Raises MethodError unless the division divides both."""
    wide, narrow = widths(method, tap)
    try:
        check_division(division, wide, narrow)
    except ValueError as error:
        raise MethodError(
            f"method {method.name}: at {tap.key} the width is {wide} and the bottleneck {narrow}: {error}; "
            f"choose `division` among them, or a `bottleneck` that is a multiple of it"
        ) from error
    return wide, narrow


def build_at(
    method: BlockMethod,
    tap: Tap,
    frozen: nn.Module,
    projection: Projection,
    shared: dict[str, tuple[str, nn.Parameter]] | None = None,
) -> nn.Module:
    """A norm of one's own at a norm, elsewhere a block of two projections `projection(in, out)`."""
    if tap.site in ALL_NORM_SITES:
        return Norm(frozen)
    check_rank(method, tap)
    wide, narrow = widths(method, tap)
    return AdapterBlock(
        projection(wide, narrow),
        projection(narrow, wide),
        width=wide,
        activation=method.activation,
        pre_norm=method.pre_norm,
        post_norm=method.post_norm,
        shared=shared,
    )


def pack_dense(tap: Tap, module: nn.Module) -> PackedTap:
    """Serving form of a block of dense projections, or of a norm."""
    return pack_norm(module) if tap.site in ALL_NORM_SITES else pack_bottleneck(module)


def pack_factored(tap: Tap, module: nn.Module) -> PackedTap:
    """Serving form of a block of factored projections, or of a norm."""
    return pack_norm(module) if tap.site in ALL_NORM_SITES else pack_kronecker(module)
