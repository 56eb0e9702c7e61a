"""Where rows lie in a packed batch: groups of rows that may be one padded grid, and subsets of rows.

It knows lengths and positions, no tokens and no attention. R rows, T tokens, t tokens of a group or subset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
# What queries see, by what it depends on; beside it the table of biases that it was made from.
Masks = dict[tuple[object, ...], tuple[Tensor | None, Tensor | None]]
# Rows share a grid while the longest is at most this many times the shortest. On the CPU many grids
# without padding are fastest (benchmarks/attention_groups.py); a GPU wants one grid with padding.
GROUP_STRETCH = {"cpu": 1.0, "cuda": math.inf}


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows as one grid: tokens [start, stop) as `rows` rows of `length`, the first one `first`.

    `flat` [t] places each token in the [rows * length] grid and `mask` [rows, 1, 1, length] says where tokens
    are; both are None when all rows have the same length and nothing needs to be padded.
    """

    start: int
    stop: int
    first: int
    rows: int
    length: int
    flat: Tensor | None
    mask: Tensor | None

    def grid(self, x: Tensor) -> Tensor:
        """The group's own tokens [t, ...] -> [rows, length, ...], zeros where no token is."""
        if self.flat is not None:
            x = x.new_zeros(self.rows * self.length, *x.shape[1:]).index_copy(0, self.flat, x)
        return x.view(self.rows, self.length, *x.shape[1:])

    def tokens(self, grid: Tensor) -> Tensor:
        """[rows, length, ...] -> the group's tokens [t, ...]."""
        flat = grid.reshape(self.rows * self.length, *grid.shape[2:])
        return flat if self.flat is None else flat.index_select(0, self.flat)


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """Some rows of a layout: `rows` [r], their `tokens` [t] (None: all of them), grids over these tokens."""

    rows: Tensor
    tokens: Tensor | None
    groups: list[Group]


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows one after another: `lengths` and `starts` [R] in tokens (on the host), `row_of_token` [T].

    `padded`: the model is given a grid [R, longest] instead, so tensors at its taps are [R, L, D]. `again`:
    many passes run on it, so that what is gathered for its rows is kept.
    """

    lengths: Ints
    starts: Ints
    row_of_token: Tensor
    device: torch.device
    padded: bool = False
    again: bool = False
    _subsets: dict[tuple[int, ...] | None, Subset] = field(default_factory=dict)

    @classmethod
    def of(cls, lengths: Ints, device: torch.device, *, padded: bool = False, again: bool = False) -> Layout:
        """Rows of these lengths; a row may be empty."""
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else lengths
        rows = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).to(device)
        return cls(lengths, starts, rows, device, padded, again)

    @property
    def num_rows(self) -> int:
        """R, empty rows included."""
        return len(self.lengths)

    def subset(self, rows: tuple[int, ...] | None) -> Subset:
        """These rows in ascending order (None: every row that has tokens); made once."""
        if rows not in self._subsets:
            self._subsets[rows] = self._make_subset(rows)
        return self._subsets[rows]

    def _make_subset(self, rows: tuple[int, ...] | None) -> Subset:
        asked = np.arange(len(self.lengths)) if rows is None else np.array(rows, dtype=np.int64)
        chosen = asked[self.lengths[asked] > 0]
        every = len(chosen) == int((self.lengths > 0).sum())
        tokens = None if every else put(spans(self.starts[chosen], self.lengths[chosen]), self.device)
        return Subset(put(chosen, self.device), tokens, groups(self.lengths[chosen], self.device))


def groups(lengths: Ints, device: torch.device, stretch: float | None = None) -> list[Group]:
    """Grids over rows that lie one after another, none of them empty; how unequal is up to the device."""
    if stretch is None:
        stretch = GROUP_STRETCH.get(device.type, math.inf)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return [_group(lengths, starts, i, j, device) for i, j in pairwise(_cuts(lengths.tolist(), stretch))]


def parted(x: Tensor, groups: Sequence[Group]) -> list[Tensor]:
    """Every group's tokens of x [T, ...]: [t, ...] each. Groups lie one behind another, perhaps with gaps.

    One cut instead of a slice for each: the gradient of a slice is as large as x, and all of them are added.
    """
    bounds = [0, *(bound for group in groups for bound in (group.start, group.stop)), x.shape[0]]
    return list(torch.split(x, [stop - start for start, stop in pairwise(bounds)])[1::2])


def spans(starts: Ints, lengths: Ints) -> Ints:
    """The numbers of all tokens of rows that start and are as long as given."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def put(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """On a GPU from pinned memory, so that the copy waits for nothing."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)


def _cuts(lengths: Sequence[int], stretch: float) -> list[int]:
    """Row numbers at which a new grid begins, and the end."""
    if not lengths:
        return []
    cuts, low, high = [0], lengths[0], lengths[0]
    for row, length in enumerate(lengths):
        low, high = min(low, length), max(high, length)
        if high > stretch * low:
            cuts.append(row)
            low = high = length
    return [*cuts, len(lengths)]


def _group(lengths: Ints, starts: Ints, first: int, last: int, device: torch.device) -> Group:
    own = lengths[first:last]
    start, stop, rows, length = int(starts[first]), int(starts[last]), last - first, int(own.max())
    if rows * length == stop - start:
        return Group(start, stop, first, rows, length, None, None)
    flat = spans(np.arange(rows) * length, own)
    mask = put(np.arange(length)[None] < own[:, None], device)
    return Group(start, stop, first, rows, length, put(flat, device), mask[:, None, None])
