"""Several adapters in training on one backbone: one pass, in which each acts on rows of its own.

The training forms are those of an adapter alone; each is given its part of what passes a tap. So gradients
are those of training alone. An exclusive method has weights for all rows and cannot take part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .adapter import Adapter
from .backbone import Backbone
from .ops import TapModule
from .packed import PackedBatch, joined
from .sites import Tap
from .tapped import Act, attached, frozen_module


@dataclass
class _Acting:
    """Whose rows pass, one after another: numbers of adapters, and their own batches where several run."""

    who: list[int] = field(default_factory=list)
    batches: list[PackedBatch] = field(default_factory=list)


class SideBySide:
    """Adapters by their numbers. Raises ValueError for one of an exclusive method."""

    def __init__(self, backbone: Backbone, adapters: Sequence[Adapter]) -> None:
        exclusive = [adapter.method.name for adapter in adapters if adapter.weights is not None]
        if exclusive:
            raise ValueError(f"{exclusive[0]} changes the weights under all rows: it trains alone")
        self.backbone, self._acting = backbone, _Acting()
        modules: dict[Tap, dict[int, TapModule]] = {}
        for number, adapter in enumerate(adapters):
            for tap, module in adapter.body.items():
                modules.setdefault(tap, {})[number] = module
        self._acts: dict[Tap, Act] = {
            tap: _PartedAct(frozen_module(backbone.model, tap.path), found, backbone, self._acting)
            for tap, found in modules.items()
        }

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Put all of them on the backbone; every pass then needs `alone` or `running`."""
        with attached(self.backbone.model, self._acts):
            yield

    @contextmanager
    def alone(self, number: int) -> Iterator[None]:
        """Passes in it are those of one adapter."""
        before = self._acting.who, self._acting.batches
        self._acting.who, self._acting.batches = [number], []
        try:
            yield
        finally:
            self._acting.who, self._acting.batches = before

    @contextmanager
    def running(self, batches: Mapping[int, PackedBatch]) -> Iterator[dict[int, Tensor]]:
        """One pass over the batches of some adapters: each one's last hidden states [t, H], packed order.

        Within it a decoder runs for one of them at a time, `alone`.
        """
        self._acting.who, self._acting.batches = list(batches), list(batches.values())
        sizes = [int(batch.layout.lengths.sum()) for batch in batches.values()]
        try:
            with self.backbone.running(joined(self._acting.batches)) as hidden:
                yield dict(zip(batches, torch.split(hidden, sizes), strict=True))
        finally:
            self._acting.who, self._acting.batches = [], []


@dataclass(frozen=True, slots=True)
class _PartedAct:
    """What acts at a tap: of each adapter its own module, of one that has none here the frozen model."""

    frozen: nn.Module
    modules: Mapping[int, TapModule]
    backbone: Backbone
    acting: _Acting

    @property
    def idle(self) -> bool:
        """Never: it acts on every batch."""
        return False

    @property
    def replaces(self) -> bool:
        """Then the frozen module runs here, for those that need it."""
        return any(module.replaces for module in self.modules.values())

    @property
    def only_adds(self) -> bool:
        """Whether all of them do."""
        return all(module.only_adds for module in self.modules.values())

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """x [1, T, I] and y [1, T, O], or padded grids [R, L, ...]."""
        who, batches = self.acting.who, self.acting.batches
        if not batches:
            (alone,) = who
            return self._one(alone, self.backbone.source, x, y)
        padded = batches[0].layout.padded
        sizes = [batch.num_rows if padded else int(batch.layout.lengths.sum()) for batch in batches]
        axis = 0 if padded else 1
        cut = zip(who, batches, torch.split(x, sizes, axis), torch.split(y, sizes, axis), strict=True)
        return torch.cat([self._one(*own).to(y.dtype) for own in cut], axis)

    def _one(self, number: int, batch: PackedBatch | None, x: Tensor, y: Tensor) -> Tensor:
        """The rows of one adapter."""
        module = self.modules.get(number)
        if self.replaces and not (module and module.replaces):
            y = self.frozen(x)
        if module is None:
            return y
        new: Tensor = module(x, y, batch) if module.op.by_place else module(x, y)
        return new
