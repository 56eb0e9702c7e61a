"""What an exclusive method has: something without a per-row form, namely other weights for the backbone.

Its rows run in batches of their own, with the weights swapped; everything else about it (modules at taps,
file, head, probes) is as with every method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor, nn


class Weights(nn.Module, ABC):
    """A module whose parameters decide the backbone's weights."""

    __call__: Callable[..., Mapping[str, Tensor]]

    @abstractmethod
    def forward(self) -> Mapping[str, Tensor]:
        """The weights by the model's own parameter names; gradients flow to the module's parameters."""

    @abstractmethod
    def file_tensors(self) -> Mapping[str, Tensor]:
        """What a file holds of it, by lower-case name (`weights/<name>` there)."""
