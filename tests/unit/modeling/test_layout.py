"""Where tokens lie in a packed batch, against loops over rows: layouts, grids, virtual tokens, targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling.layout import Group, Layout, groups, parted, spans
from modeling.packed import PackedBatch, pack
from modeling.steps import first_step
from modeling.target import targets
from modeling.text import Encoded

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=12)
STRETCHES = st.sampled_from([1.0, 1.5, 2.0, math.inf])


def ints(values: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


def rows_of(tokens: torch.Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Numbered tokens [t], cut into rows."""
    return [row.tolist() for row in torch.split(tokens, list(lengths))]


def grid_rows(group: Group, tokens: torch.Tensor) -> list[list[int]]:
    """The rows of a group's grid without what its mask hides."""
    (own,) = parted(tokens, [group])
    grid = group.grid(own)
    assert grid.shape[:2] == (group.rows, group.length)
    if group.mask is None:
        return [row.tolist() for row in grid]
    assert group.mask.shape == (group.rows, 1, 1, group.length)
    return [row[mask].tolist() for row, mask in zip(grid, group.mask[:, 0, 0], strict=True)]


@given(starts=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=8))
def test_spans_are_the_numbers_of_each_row(starts: list[tuple[int, int]]) -> None:
    wanted = [number for start, length in starts for number in range(start, start + length)]
    found = spans(ints([start for start, _ in starts]), ints([length for _, length in starts]))
    assert found.tolist() == wanted


@given(lengths=LENGTHS, stretch=STRETCHES)
def test_grids_hold_every_row_once_in_order(lengths: list[int], stretch: float) -> None:
    tokens = torch.arange(1, sum(lengths) + 1)
    found = groups(ints(lengths), CPU, stretch)
    assert [row for group in found for row in grid_rows(group, tokens)] == rows_of(tokens, lengths)
    parts = zip(found, parted(tokens, found), strict=True)
    assert torch.equal(torch.cat([group.tokens(group.grid(part)) for group, part in parts]), tokens)
    first = 0
    for group in found:
        own = lengths[first : first + group.rows]
        assert (group.first, group.length) == (first, max(own))
        assert max(own) <= stretch * min(own)
        assert (group.mask is None) == (len(set(own)) == 1)
        first += group.rows
    for left, right in pairwise(found):
        own = lengths[left.first : right.first + 1]
        assert max(own) > stretch * min(own), "two grids that could be one"


def test_groups_with_gaps_between_them_get_their_own_tokens_and_the_gaps_no_gradient() -> None:
    first, _, last = groups(ints([2, 1, 3]), CPU, 1.0)
    x = torch.arange(6.0, requires_grad=True)
    left, right = parted(x, [first, last])
    assert (left.tolist(), right.tolist()) == ([0.0, 1.0], [3.0, 4.0, 5.0])
    (gradient,) = torch.autograd.grad(left.sum() + 2 * right.sum(), x)
    assert gradient.tolist() == [1.0, 1.0, 0.0, 2.0, 2.0, 2.0]


def test_padding_in_a_grid_is_zero() -> None:
    (group,) = groups(ints([1, 3]), CPU, math.inf)
    assert group.grid(torch.tensor([7.0, 1.0, 2.0, 3.0])).tolist() == [[7.0, 0.0, 0.0], [1.0, 2.0, 3.0]]


@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=10), data=st.data())
def test_a_subset_holds_the_tokens_of_its_rows(lengths: list[int], data: st.DataObject) -> None:
    layout = Layout.of(ints(lengths), CPU)
    chosen = data.draw(st.sets(st.sampled_from(range(len(lengths)))).map(sorted))
    subset = layout.subset(tuple(chosen))
    tokens = torch.arange(1, sum(lengths) + 1)
    rows = rows_of(tokens, lengths)
    assert layout.row_of_token.tolist() == [row for row, n in enumerate(lengths) for _ in range(n)]
    assert layout.starts.tolist() == [sum(lengths[:row]) for row in range(len(lengths))]
    kept = [row for row in chosen if lengths[row]]
    assert subset.rows.tolist() == kept
    own = tokens if subset.tokens is None else tokens[subset.tokens]
    assert own.tolist() == [token for row in kept for token in rows[row]]
    assert [row for group in subset.groups for row in grid_rows(group, own)] == [rows[row] for row in kept]
    assert layout.subset(tuple(chosen)) is subset
    every = layout.subset(None)
    assert every.tokens is None
    assert [row for group in every.groups for row in grid_rows(group, tokens)] == [r for r in rows if r]


def encoded(lengths: Sequence[int]) -> list[Encoded]:
    """Texts whose ids say which text and which place."""
    return [
        Encoded([100 * text + place for place in range(1, n + 1)], [1] * n, n, truncated=False)
        for text, n in enumerate(lengths, 1)
    ]


def packed(lengths: Sequence[int], virtual: int | Sequence[int] = 0, first: int = 0) -> PackedBatch:
    return pack(encoded(lengths), first_position=first, device=CPU, virtual=virtual)


@given(rows=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=8))
def test_a_batch_has_each_text_behind_its_virtual_tokens(rows: list[tuple[int, int]]) -> None:
    texts, virtual = encoded([n for n, _ in rows]), [v for _, v in rows]
    batch = packed([n for n, _ in rows], virtual, first=2)
    total = [len(text) + v for text, v in zip(texts, virtual, strict=True)]
    assert batch.order == sorted(range(len(rows)), key=total.__getitem__)
    assert batch.lengths.tolist() == batch.layout.lengths.tolist() == [total[i] for i in batch.order]
    assert batch.inverse.tolist() == [batch.order.index(i) for i in range(len(rows))]
    assert batch.virtual.tolist() == [virtual[i] for i in batch.order]
    assert (batch.num_rows, batch.ids.shape) == (len(rows), (1, sum(total)))
    ids = [[0] * virtual[i] + texts[i].ids for i in batch.order]
    types = [[0] * virtual[i] + texts[i].type_ids for i in batch.order]
    assert batch.ids[0].tolist() == [one for row in ids for one in row]
    assert batch.type_ids[0].tolist() == [one for row in types for one in row]
    assert batch.positions[0].tolist() == [2 + place for row in ids for place in range(len(row))]
    assert batch.ids[0, batch.text_starts].tolist() == [texts[i].ids[0] for i in batch.order]
    own, lengths = batch.text_only(batch.ids[0])
    assert own.tolist() == [one for i in batch.order for one in texts[i].ids]
    assert lengths.tolist() == [len(texts[i]) for i in batch.order]
    assert batch.ids[0, batch.virtual_tokens].tolist() == [0] * sum(virtual)
    assert len(set(batch.virtual_tokens.tolist())) == sum(virtual)


def test_one_number_of_virtual_tokens_is_that_of_every_row() -> None:
    assert packed([2, 1], 3).virtual.tolist() == [3, 3]


@pytest.mark.parametrize("lengths", [[], [2, 0]])
def test_nothing_to_read_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        packed(lengths)


@given(
    source=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    data=st.data(),
)
def test_targets_attend_to_their_own_source_row(source: list[int], data: st.DataObject) -> None:
    """Any number of sequences for some of the rows: none, one or several."""
    batch = packed(source)
    per_row = data.draw(st.lists(st.lists(st.integers(1, 20), max_size=3), min_size=len(source), max_size=6))
    per_row = per_row[: len(source)] + [[]] * (len(source) - len(per_row))
    sequences = [
        (row, [1000 * row + 100 * k + place for place in range(length)])
        for row, own in enumerate(per_row)
        for k, length in enumerate(own)
    ]
    if not sequences:
        return
    target = targets(batch, sequences)
    flat = [one for _, ids in sequences for one in ids]
    assert target.ids[0].tolist() == flat
    assert target.positions[0].tolist() == [place for _, ids in sequences for place in range(len(ids))]
    assert target.lengths.tolist() == [len(ids) for _, ids in sequences]
    assert target.layout.lengths.tolist() == [sum(own) for own in per_row]
    assert target.ids[0, target.last_tokens()].tolist() == [ids[-1] for _, ids in sequences]
    tokens = torch.arange(len(flat))
    own = rows_of(tokens, [len(ids) for _, ids in sequences])
    assert [row for group in target.own for row in grid_rows(group, tokens)] == own
    asked = [row for row in range(len(source)) if per_row[row]]
    queries = [row for group, _ in target.cross for row in grid_rows(group, tokens)]
    assert queries == [rows_of(tokens, [sum(lengths) for lengths in per_row])[row] for row in asked]
    keys = torch.arange(sum(source))
    found = [row for _, group in target.cross for row in grid_rows(group, keys)]
    lengths = [source[i] for i in batch.order]
    assert found == [rows_of(keys, lengths)[row] for row in asked]
    assert all(queried.rows == keyed.rows for queried, keyed in target.cross)


def test_a_step_has_one_token_for_every_row() -> None:
    batch = packed([3, 1, 2])
    first = first_step(batch, 7)
    third = first.following(torch.tensor([8, 8, 8])).following(torch.tensor([4, 5, 6]))
    last = third.only([0, 2])
    for target, ids, step in [(first, [7, 7, 7], 0), (third, [4, 5, 6], 2), (last, [4, 6], 2)]:
        assert target.ids.tolist() == [ids]
        assert target.positions.tolist() == [[step] * len(ids)]
        assert target.step == step
    assert third.kept is first.kept
    for target, rows in [(third, [0, 1, 2]), (last, [0, 2]), (last.only([1]), [2])]:
        assert target.rows.tolist() == target.layout.row_of_token.tolist() == rows
        assert target.layout.lengths.tolist() == [int(row in rows) for row in range(3)]


def test_rows_without_targets_lie_between_those_with_some() -> None:
    """All are equally long, so that nothing else would cut there."""
    batch = packed([2, 2, 2, 2])
    target = targets(batch, [(0, [7, 8]), (2, [9, 10]), (3, [11, 12])])
    keys = torch.arange(8)
    found = [row for _, group in target.cross for row in grid_rows(group, keys)]
    assert found == [[0, 1], [4, 5], [6, 7]]
