"""What a row op is: parts with an identity, and a function that applies gathered parts to a batch.

An op's semantics, for token t of a batch whose row holds slot s:
`y[t] = f(part[s], x[t], y[t])`. Slot 0 of every part is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..registry import Registry
from ..sites import Tap


@dataclass(frozen=True, slots=True)
class PackedTap:
    """The serving form of an adapter at one tap: an op's name and the parts that differ from the identity."""

    op: str
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class RowOp:
    """An op on a mixed batch.

    `identity(tap, frozen)` gives slot 0 of every part; `apply(frozen, parts, x, y)` gets the gathered
    parts ([T, ...], or [1, ...] when the whole batch shares one slot) that some row of the batch needs.
    `order` fixes the sequence of ops on one tap. With `replaces` the frozen module is not run at all.
    """

    name: str
    order: int
    replaces: bool
    identity: Callable[[Tap, nn.Module], dict[str, Tensor]]
    apply: Callable[[nn.Module, Mapping[str, Tensor], Tensor, Tensor], Tensor]


OPS: Registry[RowOp] = Registry("op")
