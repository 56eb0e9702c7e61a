"""What a row op is: a function that applies the parameters of every row to a mixed batch, without a loop.

An op's semantics, for a token t of a row that holds slot s: `y[t] = f(parts[s], x[t], y[t])`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..kernels import RowCall
from ..part import Part
from ..registry import Registry
from ..segments import SegmentCall
from ..sites import Tap

Static = Any  # of an op's own type, hashable; its repr tells all that it holds
Parts = Mapping[str, Tensor]
BankParts = Mapping[str, Part]


@dataclass(frozen=True, slots=True)
class Shared:
    """Stands for a parameter that all taps of an adapter use (`shared/<name>` in its file)."""

    name: str


@dataclass(frozen=True, slots=True)
class PackedTap:
    """The serving form of an adapter at one tap: an op's name and its parts.

    `static` holds what is not a tensor, such as the activation. A vector op may leave out parts that are
    the identity; adapters whose parts of a matrix op have equal shapes and statics are applied together.
    """

    op: str
    parts: Mapping[str, Tensor | Shared]
    static: Static = ()


def no_kernel(parts: BankParts, static: Static) -> RowCall | None:
    """Most ops begin without one."""
    return None


def no_segments(parts: BankParts, static: Static) -> SegmentCall | None:
    """As `no_kernel`, in recorded passes."""
    return None


def no_identity(tap: Tap, frozen: nn.Module) -> dict[str, Tensor]:
    """Of a matrix op: rows without parts never reach it."""
    raise AssertionError("a matrix op has no identity: this is a bug")


@dataclass(frozen=True, slots=True)
class RowOp:
    """An op on a mixed batch.

    A vector op gets its parts per token, [T, ...] (or [1, ...] when the whole batch shares one slot, or
    [B, 1, ...] on a padded grid), and `identity(tap, frozen)` gives them for rows without an adapter.
    A matrix op (`per_row`) gets rows of equal length: x [b, L, I], y [b, L, O] and parts [b, ...]; unless
    the place of a token in its row matters to it (`by_place`), a batch of one slot comes whole, with parts
    [1, ...]. With no parts but those of `adds` it adds to y what depends neither on x nor on y.
    `apply(frozen, parts, static, x, y)` returns the new y. `order` fixes the sequence of ops on one tap. With
    `replaces` the frozen module is not run at all.
    `rows(parts, static)` is the op on a whole packed batch as one call of a kernel (`modeling.kernels`) that
    reads the parts where the bank has them; None where no kernel computes it, so that `apply` does. That of
    an op which replaces a norm gives the gain and bias behind it. `segments(parts, static)` is the same for
    passes that a GPU records (`modeling.segments`).
    """

    name: str
    order: int
    apply: Callable[[nn.Module, Parts, Static, Tensor, Tensor], Tensor]
    replaces: bool = False
    per_row: bool = False
    by_place: bool = False
    adds: frozenset[str] = frozenset()
    identity: Callable[[Tap, nn.Module], dict[str, Tensor]] = no_identity
    rows: Callable[[BankParts, Static], RowCall | None] = no_kernel
    segments: Callable[[BankParts, Static], SegmentCall | None] = no_segments


OPS: Registry[RowOp] = Registry("op")


class TapModule(nn.Module, ABC):
    """The training form of an op at one tap."""

    op: ClassVar[RowOp]

    @property
    def replaces(self) -> bool:
        """Whether the frozen module is left out."""
        return self.op.replaces

    @property
    def idle(self) -> bool:
        """Never: it acts on every batch."""
        return False

    @property
    def only_adds(self) -> bool:
        """Whether what is added to y depends neither on x nor on y."""
        return {name for name, _ in self.named_parameters()} <= self.op.adds

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The new y [..., O], from the module's input x [..., I] and output y."""

    def pack(self) -> PackedTap:
        """The serving form; it shares memory with this one."""
        return PackedTap(self.op.name, {name: p.detach() for name, p in self.named_parameters()})
