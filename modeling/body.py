"""What one adapter has at which taps: its parts, and what tells adapters with the same parts from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .ops import OPS, PackedTap, Shared, Static
from .sites import Tap

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """Adapters that one call of an op serves: the op, its statics and, for a matrix op, all shapes."""

    op: str
    static: Static = ()
    shapes: Shapes = ()
    shared: tuple[tuple[str, str], ...] = ()  # (part, name of the shared parameter)

    @property
    def order(self) -> tuple[int, str]:
        """The sequence of calls on one tap."""
        return OPS[self.op].order, repr(self)


@dataclass(frozen=True, slots=True)
class Entry:
    """One part of an adapter: at a tap, or shared by all of its taps (tap None)."""

    tap: Tap | None
    variant: Variant
    name: str


Signature = frozenset[Entry]
Body = tuple[Mapping[Tap, PackedTap], Mapping[str, Tensor]]
"""What an adapter has at taps, and what these share."""


def structure(body: Mapping[Tap, PackedTap], shared: Mapping[str, Tensor]) -> object:
    """Everything but values: adapters for which it is equal have the same parts."""
    at_taps = []
    for tap, one in body.items():
        parts = [(name, v.shape if isinstance(v, Tensor) else v) for name, v in one.parts.items()]
        at_taps.append((tap, one.op, one.static, parts))
    return at_taps, [(name, value.shape) for name, value in shared.items()]


def entries_of(body: Mapping[Tap, PackedTap], shared: Mapping[str, Tensor]) -> list[Entry]:
    """The parts that an adapter has values for, in the order of `tensors_of`."""
    entries = []
    for tap, packed in body.items():
        variant = variant_of(packed, shared)
        entries += [Entry(tap, variant, n) for n, value in packed.parts.items() if isinstance(value, Tensor)]
    return entries + [
        Entry(None, Variant("shared", shapes=((name, tuple(value.shape)),)), name)
        for name, value in shared.items()
    ]


def tensors_of(body: Body) -> list[Tensor]:
    parts = [value for packed in body[0].values() for value in packed.parts.values()]
    return [*(value for value in parts if isinstance(value, Tensor)), *body[1].values()]


def variant_of(packed: PackedTap, shared: Mapping[str, Tensor]) -> Variant:
    if not OPS[packed.op].per_row:
        return Variant(packed.op, packed.static)
    aliases = tuple(sorted((part, v.name) for part, v in packed.parts.items() if isinstance(v, Shared)))
    shapes = tuple(
        sorted(
            (name, tuple((shared[v.name] if isinstance(v, Shared) else v).shape))
            for name, v in packed.parts.items()
        )
    )
    return Variant(packed.op, packed.static, shapes, aliases)
