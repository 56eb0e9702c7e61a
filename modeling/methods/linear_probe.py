"""Linear probe: the backbone stays as it is, only the head is trained.

Stage one of the Hadamard paper on its own, and the floor that every method is measured against
(Alain and Bengio 2016, arXiv 1610.01644). Such a task costs no pass of its own in a mixed batch: all of
them read the same pooled state of a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import METHODS, Method


@METHODS.add
@dataclass(frozen=True)
class LinearProbe(Method):
    """No options."""

    name: ClassVar[str] = "linear_probe"
    paper: ClassVar[str] = "Alain and Bengio 2016, arXiv 1610.01644"
