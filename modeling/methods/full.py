"""Full fine-tuning: every weight of the backbone is trained; the baseline of both papers.

Its file holds every parameter, so it is as large as the backbone, and such a task runs in batches of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..ops import PackedTap
from ..sites import Tap
from ..weights import Named
from .base import Shared, register
from .exclusive import Weights, no_pack, no_taps


class FullWeights(nn.Module):
    """A copy of every parameter of a model. Tied parameters are one."""

    def __init__(self, model: Named) -> None:
        super().__init__()
        self._names = [name for name, _ in model.named_parameters()]
        self._values = nn.ParameterList(nn.Parameter(p.detach().clone()) for _, p in model.named_parameters())

    def forward(self) -> Mapping[str, Tensor]:
        """All of them, by name."""
        return dict(zip(self._names, self._values, strict=True))

    def file_tensors(self) -> Mapping[str, Tensor]:
        """By lower-case name."""
        return {name.lower(): value for name, value in zip(self._names, self._values, strict=True)}


@register
@dataclass(frozen=True)
class Full:
    """No options."""

    name: ClassVar[str] = "full"
    paper: ClassVar[str] = "the baseline of both papers"
    exclusive: ClassVar[bool] = True

    def weights(self, model: Named) -> Weights:
        """A copy of the model's weights."""
        return FullWeights(model)

    def select(self, taps: Sequence[Tap]) -> list[Tap]:
        """Nowhere."""
        return no_taps(taps)

    def build(self, tap: Tap, frozen: nn.Module, shared: Shared) -> nn.Module:
        """Never called: there is no tap."""
        raise AssertionError("full acts on no tap: this is a bug")

    def pack(self, tap: Tap, module: nn.Module) -> PackedTap:
        """Never called: there is no tap."""
        return no_pack(self.name)
