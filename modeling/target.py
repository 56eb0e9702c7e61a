"""What a decoder reads in one pass: any number of target sequences for the rows of a packed batch.

All target tokens of a source row lie together, in the order of the source's rows, so that cross-attention
takes them as one query and adapters see them as one row. Sequences of a row that begin alike may share the
tokens that they have in common: a tree, of which every token runs once. R source rows, N sequences, T target
tokens, E tokens of all sequences, each counted by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .layout import Group, Ints, Layout, Masks, groups, put, spans
from .packed import PackedBatch

_SHORT = 16  # target sequences up to this long share one grid, whatever their lengths


class Shared(NamedTuple):
    """Where sequences share tokens: `paths` [E] names each of theirs, sequence by sequence, and `first` [T]
    is the first place of a token among them.
    """

    paths: Tensor
    first: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TargetBatch:
    """N target sequences over R source rows. `starts` and `lengths` [N] are in tokens, on the host.

    `own` are grids over the sequences (self-attention), `cross` pairs of grids over the same rows: queries
    [rows, q] among the target tokens on keys [rows, k] among the source's. `starts`, `lengths` and `own`
    count the tokens of every sequence by themselves; with `shared` None these are the tokens that run.
    """

    ids: Tensor  # [1, T]
    positions: Tensor  # [1, T], from 0
    starts: Ints
    lengths: Ints
    layout: Layout
    own: list[Group]
    cross: list[tuple[Group, Group]]
    shared: Shared | None = None
    masks: Masks = field(default_factory=dict)

    def tokens(self) -> Tensor:
        """Where the tokens of all sequences are among those that run [E]."""
        own = self.ids.shape[1]
        return torch.arange(own, device=self.ids.device) if self.shared is None else self.shared.paths

    def last_tokens(self) -> Tensor:
        """The place of each sequence's last token [N]."""
        return self.tokens().index_select(0, put(self.starts + self.lengths - 1, self.ids.device))


class _Tokens(NamedTuple):
    """Tokens that run: `ids`, `positions` and `rows` [T] of the source; of a tree, `paths` [E]."""

    ids: Ints
    positions: Ints
    rows: Ints
    paths: Ints | None = None


Sequences = Sequence[tuple[int, Sequence[int]]]
"""Sequences as (packed row, ids), in ascending order of rows, each at least one token long."""


def targets(source: PackedBatch, sequences: Sequences) -> TargetBatch:
    """Every sequence by itself."""
    lengths = np.array([len(ids) for _, ids in sequences], dtype=np.int64)
    tokens = _Tokens(
        np.fromiter(chain.from_iterable(ids for _, ids in sequences), np.int64, int(lengths.sum())),
        spans(np.zeros_like(lengths), lengths),
        np.repeat(np.array([row for row, _ in sequences], dtype=np.int64), lengths),
    )
    return _batch(source, lengths, tokens)


def prefix_tree(source: PackedBatch, sequences: Sequences) -> TargetBatch:
    """What the sequences of a row begin with in common runs once; equal ones are one."""
    lengths = np.array([len(ids) for _, ids in sequences], dtype=np.int64)
    return _batch(source, lengths, _grown(sequences))


def _grown(sequences: Sequences) -> _Tokens:
    """The tree, its tokens in the order in which sequences need them: those of a row lie together."""
    known: dict[tuple[int, int], int] = {}  # by the token before it (below 0: the row's beginning) and its id
    nodes: list[tuple[int, int, int]] = []
    paths = []
    for row, ids in sequences:
        node = -1 - row
        for position, token in enumerate(ids):
            key = node, token
            if key not in known:
                known[key] = len(nodes)
                nodes.append((token, position, row))
            node = known[key]
            paths.append(node)
    ids_, positions, rows = np.array(nodes, dtype=np.int64).T
    return _Tokens(
        ids_, positions, rows, np.array(paths, dtype=np.int64) if len(paths) > len(nodes) else None
    )


def _batch(source: PackedBatch, lengths: Ints, tokens: _Tokens) -> TargetBatch:
    device, shared = source.ids.device, None
    layout = Layout.of(np.bincount(tokens.rows, minlength=source.num_rows), device, padded=False)
    if tokens.paths is not None:
        first = np.unique(tokens.paths, return_index=True)[1]
        shared = Shared(put(tokens.paths, device), put(first, device))
    stretch = math.inf if lengths.max() <= _SHORT else None
    return TargetBatch(
        ids=put(tokens.ids, device)[None],
        positions=put(tokens.positions, device)[None],
        starts=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        lengths=lengths,
        layout=layout,
        own=groups(lengths, device, stretch),
        cross=_cross(source.layout, layout),
        shared=shared,
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
