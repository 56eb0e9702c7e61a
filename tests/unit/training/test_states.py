"""Rows with different numbers of states: taken, and their logits laid out row by row."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling.kinds.base import by_row
from training.loop.states import States


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=6), data=st.data())
def test_some_rows_are_as_each_alone(counts: list[int], data: st.DataObject) -> None:
    values = torch.arange(sum(counts), dtype=torch.float32)[:, None] * torch.tensor([1.0, 10.0])
    own = torch.split(values, counts)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    taken = States(values, torch.tensor(counts)).take(chosen)
    torch.testing.assert_close(taken.values, torch.cat([own[row] for row in chosen]))
    padded = taken.by_row(taken.values)
    for row, found in zip(chosen, padded, strict=True):
        torch.testing.assert_close(found[: own[row].numel()], own[row].flatten())
        assert found[own[row].numel() :].isnan().all()
    same = by_row([own[row].flatten().numpy() for row in chosen])
    np.testing.assert_array_equal(padded.numpy(), same)


def test_what_is_padded_takes_no_gradient() -> None:
    values = torch.ones(3, 2, requires_grad=True)
    States(values, torch.tensor([1, 2])).by_row(2 * values).nansum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.full((3, 2), 2.0))
