"""bottleneck: an adapter block of dense projections, y + up(act(down(y))); each row has its own."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers.adapter_block import AdapterBlock, adapter_block
from .base import OPS, PackedTap, Parts, RowOp, Static


def pack_bottleneck(module: nn.Module) -> PackedTap:
    """Serving form of an `AdapterBlock` of dense projections: its own tensors."""
    assert isinstance(module, AdapterBlock), "bottleneck packs adapter blocks: this is a bug"
    own = {name: p.detach() for name, p in module.named_parameters()}
    return PackedTap("bottleneck", own, (("activation", module.activation),))


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    """y [b, L, D] -> [b, L, D]; parts down.weight [b, R, D], up.weight [b, D, R], ..."""
    return adapter_block(parts, str(dict(static)["activation"]), y)


OPS.register("bottleneck")(RowOp("bottleneck", order=3, per_row=True, apply=_apply))
