"""Generation step by step: one token per row that a decoder reads, and what is kept of its passes on a batch.

Keys and values of the texts are computed once per batch, whether text is generated or strings are scored in
several passes; those of tokens that were written go to a buffer that grows. R rows that still write, h heads,
D width of a head, T tokens of the source, S steps so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from .layout import GROUP_STRETCH, Group, Ints, Layout, Masks, groups, parted, put, spans
from .packed import PackedBatch

_STRETCH = 1.25  # of grids that are made once and read at every step: there padding is cheaper than calls
_FIRST_ROOM = 16  # steps; a buffer that is full doubles

Texts = list[tuple[Tensor, Tensor, Tensor | None]]


@dataclass(frozen=True, slots=True, eq=False)
class StepBatch:
    """One token for each of R rows of a source, in their order: the `step`-th of a cached generation.

    `grids` are over the texts of these rows, laid one after another. Keys and values on them are made at the
    first step and `kept` by the tensor that they were made of.
    """

    ids: Tensor  # [1, R]
    positions: Tensor  # [1, R], from 0
    layout: Layout  # a token for each row of the source that is among the R, else none
    rows: Ints  # [R], the source's
    texts: Layout  # the source's
    grids: list[Group]
    step: int = 0
    masks: Masks = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Texts]] = field(default_factory=dict)

    def following(self, ids: Tensor) -> StepBatch:
        """The next step, ids [R] in the order of the rows."""
        return replace(self, ids=ids[None], positions=self.positions + 1, step=self.step + 1, masks={})

    def only(self, places: Sequence[int]) -> StepBatch:
        """The same step of those of the R rows that stand at `places`, ascending."""
        chosen = np.array(places, dtype=np.int64)
        index = put(chosen, self.ids.device)
        ids, positions = (x.index_select(1, index) for x in (self.ids, self.positions))
        return _on_rows(self.texts, self.rows[chosen], ids, positions, self.step)

    def texts_of(self, key: Tensor, value: Tensor) -> Texts:
        """Keys and values of the source [1, h, T, D], the same at every step, as grids [rows, h, length, D].

        Beside them what is added to a grid's scores, where it has padding.
        """
        if id(key) not in self.kept:
            added = [grid.mask if grid.mask is None else _added(grid.mask, key) for grid in self.grids]
            made = list(zip(self._gridded(key), self._gridded(value), added, strict=True))
            self.kept[id(key)] = key, made  # the key is kept, so that its id stays taken
        return self.kept[id(key)][1]

    def _gridded(self, x: Tensor) -> list[Tensor]:
        tokens = x[0].transpose(0, 1)  # [T, h, D]
        if len(self.rows) < self.texts.num_rows:
            own = spans(self.texts.starts[self.rows], self.texts.lengths[self.rows])
            tokens = tokens.index_select(0, put(own, x.device))
        parts = zip(self.grids, parted(tokens, self.grids), strict=True)
        return [grid.grid(part).transpose(1, 2).contiguous() for grid, part in parts]


def first_step(source: PackedBatch, start: int) -> StepBatch:
    """The first token of a cached generation, `start` for every source row."""
    ids = torch.full((1, source.num_rows), start, device=source.ids.device)
    return _on_rows(source.layout, np.arange(source.num_rows), ids, torch.zeros_like(ids), 0)


def _on_rows(texts: Layout, rows: Ints, ids: Tensor, positions: Tensor, step: int) -> StepBatch:
    counts = np.bincount(rows, minlength=texts.num_rows)
    stretch = max(_STRETCH, GROUP_STRETCH.get(texts.device.type, math.inf))
    grids = groups(texts.lengths[rows], texts.device, stretch)
    layout = Layout.of(counts, texts.device, again=True)
    return StepBatch(ids, positions, layout, rows, texts, grids, step)


def _added(mask: Tensor, like: Tensor) -> Tensor:
    return like.new_zeros(mask.shape).masked_fill(~mask, -math.inf)


class _Once(DynamicLayer):  # type: ignore[misc]  # the library's, without types
    """Keys and values of the texts, as they were computed: without a copy."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values, self.is_initialized = key_states, value_states, True
        return key_states, value_states


class _Forgotten(DynamicLayer):  # type: ignore[misc]  # as above
    """Strings that are scored whole leave nothing for the next pass."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return key_states, value_states


class _Steps(DynamicLayer):  # type: ignore[misc]  # as above
    """Of each step R tokens, behind those of the steps before it: keys and values [1, h, S R, D]."""

    def __init__(self) -> None:
        super().__init__()
        self._room: Tensor | None = None  # [2, steps, R, h, D]
        self._steps = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        new = (x[0].transpose(0, 1) for x in (key_states, value_states))  # [R, h, D]
        if self._room is None:
            self._room = key_states.new_empty(2, _FIRST_ROOM, *key_states.shape[2:0:-1], key_states.shape[3])
        elif self._steps == self._room.shape[1]:
            self._room = torch.cat([self._room, torch.empty_like(self._room)], 1)
        for side, x in zip(self._room, new, strict=True):
            side[self._steps] = x
        self._steps += 1
        return self._shown()

    def only(self, places: Tensor) -> None:
        """Keep these of the R rows."""
        if self._room is not None:
            self._room = self._room.index_select(2, places)
            self._shown()

    def _shown(self) -> tuple[Tensor, Tensor]:
        assert self._room is not None, "nothing was written: this is a bug"
        keys, values = self._room[:, : self._steps].flatten(1, 2).transpose(1, 2)[:, None]
        self.keys, self.values, self.is_initialized = keys, values, True
        return keys, values


class Memory(EncoderDecoderCache):  # type: ignore[misc]  # as above
    """What is kept between a decoder's passes on one batch: keys and values of its texts, computed once.

    With `writes` each pass is a step, and those of the tokens so far are kept, too.
    """

    def __init__(self, *, writes: bool = False) -> None:
        self._own = Cache(layer_class_to_replicate=_Steps if writes else _Forgotten)
        super().__init__(self._own, Cache(layer_class_to_replicate=_Once))
        self.texts: dict[int, tuple[Tensor, Tensor]] = {}  # on the fast path, [T, h D] by layer

    def only(self, places: Tensor) -> None:
        """Keep these of the R rows that write."""
        for layer in self._own.layers:
            layer.only(places)
