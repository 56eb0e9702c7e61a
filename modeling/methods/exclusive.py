"""What an exclusive method has: something without a per-row form, namely other weights for the backbone.

Its rows run in batches of their own, with the weights swapped; everything else about it (modules at taps,
file, head, probes) is as with every method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from ..errors import MethodError
from ..ops import PackedTap
from ..sites import Tap
from ..weights import Named


class Weights(Protocol):
    """A module whose parameters decide the backbone's weights."""

    def __call__(self) -> Mapping[str, Tensor]:
        """The weights by the model's own parameter names; gradients flow to the module's parameters."""

    def file_tensors(self) -> Mapping[str, Tensor]:
        """What a file holds of it, by lower-case name (`weights/<name>` there)."""


def weights_of(method: Any, model: Named) -> Weights:
    """The weights module of an exclusive method, started at the model's own weights."""
    return cast(Weights, method.weights(model))


def no_taps(taps: Sequence[Tap]) -> list[Tap]:
    """For a method that acts at no tap."""
    return []


def no_pack(name: str) -> PackedTap:
    """For a method that acts at no tap. Raises MethodError."""
    raise MethodError(f"method {name} acts at no tap: this is a bug")
