"""Full fine-tuning: every weight of the backbone is trained; the baseline of both papers.

Its file holds every parameter, so it is as large as the backbone, and such a task runs in batches of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..weights import Named
from .base import METHODS, Method
from .exclusive import Weights


class FullWeights(Weights):
    """A copy of every parameter of a model. Tied parameters are one."""

    def __init__(self, model: Named) -> None:
        super().__init__()
        self._names = [name for name, _ in model.named_parameters()]
        self._values = nn.ParameterList(nn.Parameter(p.detach().clone()) for _, p in model.named_parameters())

    def forward(self) -> Mapping[str, Tensor]:
        return dict(zip(self._names, self._values, strict=True))

    def file_tensors(self) -> Mapping[str, Tensor]:
        return {name.lower(): value for name, value in zip(self._names, self._values, strict=True)}


@METHODS.add
@dataclass(frozen=True)
class Full(Method):
    """No options."""

    name: ClassVar[str] = "full"
    paper: ClassVar[str] = "the baseline of both papers"

    def weights(self, model: Named) -> FullWeights:
        return FullWeights(model)
