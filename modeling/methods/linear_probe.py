"""Linear probe: the backbone stays as it is, only the head is trained.

Stage one of the Hadamard paper on its own, and the floor that every method is measured against
(Alain and Bengio 2016, arXiv 1610.01644). Such a task costs no pass of its own in a mixed batch: all of
them read the same pooled state of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ..ops import PackedTap
from ..sites import Tap
from .base import Shared, register


@register
@dataclass(frozen=True)
class LinearProbe:
    """No options."""

    name: ClassVar[str] = "linear_probe"
    paper: ClassVar[str] = "Alain and Bengio 2016, arXiv 1610.01644"

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Nowhere."""
        return []

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """Never called: there is no tap."""
        raise AssertionError("linear_probe acts on no tap: this is a bug")

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """Never called: there is no tap."""
        raise AssertionError("linear_probe acts on no tap: this is a bug")
