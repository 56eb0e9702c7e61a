"""What a decoder reads in one pass: any number of target sequences for the rows of a packed batch.

All target tokens of a source row lie together, in the order of the source's rows, so that cross-attention
takes them as one query and adapters see them as one row. R source rows, N sequences, T target tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor

from .layout import Group, Ints, Layout, Masks, groups, put, spans
from .packed import PackedBatch

_SHORT = 16  # target sequences up to this long share one grid, whatever their lengths


@dataclass(frozen=True, slots=True, eq=False)
class TargetBatch:
    """N target sequences over R source rows. `starts` and `lengths` [N] are in tokens, on the host.

    `own` are grids over the sequences (self-attention), `cross` pairs of grids over the same rows: queries
    [rows, q] among the target tokens on keys [rows, k] among the source's. With `step` set it holds one token
    per source row, the `step`-th of a cached generation.
    """

    ids: Tensor  # [1, T]
    positions: Tensor  # [1, T], from 0
    starts: Ints
    lengths: Ints
    layout: Layout
    own: list[Group]
    cross: list[tuple[Group, Group]]
    step: int | None = None
    masks: Masks = field(default_factory=dict)

    def last_tokens(self) -> Tensor:
        """The place of each sequence's last token [N]."""
        return put(self.starts + self.lengths - 1, self.ids.device)

    def following(self, ids: Tensor) -> TargetBatch:
        """Of a cached generation, the next step: one token per source row again, ids [R] in packed order."""
        assert self.step is not None
        return replace(self, ids=ids[None], positions=self.positions + 1, step=self.step + 1, masks={})


def targets(source: PackedBatch, sequences: Sequence[tuple[int, Sequence[int]]]) -> TargetBatch:
    """Sequences as (packed row, ids), in ascending order of rows, each at least one token long."""
    device = source.ids.device
    lengths = np.array([len(ids) for _, ids in sequences], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(ids for _, ids in sequences), np.int64, total)
    rows = np.array([row for row, _ in sequences], dtype=np.int64)
    per_row = np.bincount(rows, weights=lengths, minlength=source.num_rows).astype(np.int64)
    layout = Layout.of(per_row, device, padded=False)
    stretch = math.inf if lengths.max() <= _SHORT else None
    return TargetBatch(
        ids=put(ids, device)[None],
        positions=put(spans(np.zeros_like(lengths), lengths), device)[None],
        starts=starts,
        lengths=lengths,
        layout=layout,
        own=groups(lengths, device, stretch),
        cross=_cross(source.layout, layout),
    )


def first_step(source: PackedBatch, start: int) -> TargetBatch:
    """The first token of a cached generation, `start` for every source row."""
    ones = np.ones(source.num_rows, dtype=np.int64)
    layout = Layout.of(ones, source.ids.device)
    ids = torch.full((1, source.num_rows), start, device=source.ids.device)
    return TargetBatch(
        ids=ids,
        positions=torch.zeros_like(ids),
        starts=layout.starts,
        lengths=ones,
        layout=layout,
        own=[],
        cross=_cross(source.layout, layout),
        step=0,
    )


def _cross(source: Layout, target: Layout) -> list[tuple[Group, Group]]:
    """Cut where neither the number of queries nor that of keys may share a grid any more."""
    device = source.device
    rows = np.flatnonzero(target.lengths > 0)
    keys, queries = source.lengths[rows], target.lengths[rows]
    ends = {grid.first + grid.rows for grid in [*groups(keys, device), *groups(queries, device)]}
    ends |= set(np.flatnonzero(np.diff(rows) > 1) + 1)  # rows without targets lie between: no slice covers it
    return [
        (
            _placed(queries[i:j], int(target.starts[rows[i]]), device),
            _placed(keys[i:j], int(source.starts[rows[i]]), device),
        )
        for i, j in pairwise(sorted({0, *ends}))
    ]


def _placed(lengths: Ints, start: int, device: torch.device) -> Group:
    """One grid over rows of these lengths, whose tokens begin at `start`."""
    (grid,) = groups(lengths, device, math.inf)
    return replace(grid, start=start + grid.start, stop=start + grid.stop)
