"""kronecker: an adapter block whose projections are given by factors (PHM, Compacter, low rank).

The factors stay factors: memory holds the tensors of the file, a shared rule once per adapter.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..layers.adapter_block import AdapterBlock, adapter_block
from .base import OPS, PackedTap, Parts, RowOp, Shared, Static


def pack_kronecker(module: nn.Module) -> PackedTap:
    """Serving form of an `AdapterBlock` of factored projections: its own tensors, shared ones by name."""
    assert isinstance(module, AdapterBlock), "kronecker packs adapter blocks: this is a bug"
    parts: dict[str, Tensor | Shared] = {name: p.detach() for name, p in module.named_parameters()}
    parts |= {part: Shared(name) for part, name in module.shared_names.items()}
    return PackedTap("kronecker", parts, (("activation", module.activation),))


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    """y [b, L, D] -> [b, L, D]; parts down.left [b, n, D/n, k], down.rule [b, n, n, n], ..."""
    return adapter_block(parts, str(dict(static)["activation"]), y)


OPS.register("kronecker")(RowOp("kronecker", order=4, per_row=True, apply=_apply))
