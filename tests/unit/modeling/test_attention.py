"""The packed attention against one sequence at a time, on grids without padding (CPU) and with it (GPU)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modeling import layout
from modeling.attention import STACK_MARK, packed_attention
from modeling.packed import PackedBatch, pack
from modeling.steps import StepBatch, first_step
from modeling.target import TargetBatch, prefix_tree, targets
from modeling.text import Encoded

HEADS, WIDTH, MOST, SCALE = 2, 4, 2, 0.7
LENGTHS = [3, 1, 5, 2, 5]


@pytest.fixture(params=[1.0, math.inf], ids=["as on a CPU", "as on a GPU"], autouse=True)
def _stretch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layout.GROUP_STRETCH, "cpu", request.param)


def batch_of(lengths: Sequence[int]) -> PackedBatch:
    encoded = [Encoded([1] * n, [0] * n, n, truncated=False) for n in lengths]
    return pack(encoded, first_position=0, device=torch.device("cpu"))


def stack(name: str) -> nn.Module:
    module = nn.Identity()
    setattr(module, STACK_MARK, name)
    return module


def some(tokens: int) -> Tensor:
    """[T, h, D]."""
    return torch.randn(tokens, HEADS, WIDTH)


def attend(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: PackedBatch | TargetBatch | StepBatch,
    *,
    bias: Tensor | None = None,
    window: int | None = None,
) -> Tensor:
    """q, k, v and the answer [T, h, D]."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    options: dict[str, Any] = {"packed": packed, "position_bias": bias, "sliding_window": window}
    return packed_attention(stack(name), q, k, v, None, scaling=SCALE, **options)[0][0]


def alone(
    q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False, window: int = 99
) -> Tensor:
    """One sequence: q [Q, h, D] on k, v [K, h, D]; the last query stands at the last key."""
    places, queries = torch.arange(len(k)), torch.arange(len(k) - len(q), len(k))
    distance = places[None] - queries[:, None]  # [Q, K]
    scores = SCALE * torch.einsum("qhd,khd->hqk", q, k)
    if bias is not None:
        scores = scores + bias[0, :, 0][:, distance.clamp(-MOST, MOST) + MOST]
    seen = (distance.abs() < window) & (
        (distance <= 0) if causal else torch.ones_like(distance, dtype=torch.bool)
    )
    weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v)


def biases() -> list[Tensor | None]:
    return [None, torch.randn(1, HEADS, 1, 2 * MOST + 1)]


@pytest.mark.parametrize("window", [None, 1, 2, 3, 9])
@pytest.mark.parametrize("has_bias", [0, 1])
def test_every_token_sees_its_own_text_within_the_window(window: int | None, has_bias: int) -> None:
    batch, bias = batch_of(LENGTHS), biases()[has_bias]
    q, k, v = some(16), some(16), some(16)
    found = attend("encoder", q, k, v, batch, bias=bias, window=window)
    rows = zip(*(torch.split(x, sorted(LENGTHS)) for x in (q, k, v)), strict=True)
    wanted = [alone(*row, bias=bias, window=window or 99) for row in rows]
    torch.testing.assert_close(found, torch.cat(wanted))


def test_each_layer_has_its_own_window_and_biases() -> None:
    """Masks are kept with the batch: layers of another kind must not get those of the last."""
    batch, (_, bias), other = batch_of(LENGTHS), biases(), torch.randn(1, HEADS, 1, 2 * MOST + 1)
    q, k, v = some(16), some(16), some(16)
    rows = [*zip(*(torch.split(x, sorted(LENGTHS)) for x in (q, k, v)), strict=True)]
    for table, window in [(None, None), (None, 2), (None, 3), (bias, 2), (other, 2), (bias, None), (None, 2)]:
        found = attend("encoder", q, k, v, batch, bias=table, window=window)
        wanted = [alone(*row, bias=table, window=window or 99) for row in rows]
        torch.testing.assert_close(found, torch.cat(wanted))


SEQUENCES = [(0, 2), (0, 4), (2, 1), (3, 3), (4, 3), (4, 2)]  # packed row, tokens; row 1 has none


@pytest.mark.parametrize("has_bias", [0, 1])
def test_a_target_sees_itself_so_far(has_bias: int) -> None:
    batch, bias = batch_of(LENGTHS), biases()[has_bias]
    target = targets(batch, [(row, [5] * n) for row, n in SEQUENCES])
    lengths = [n for _, n in SEQUENCES]
    q, k, v = (some(sum(lengths)) for _ in range(3))
    found = attend("decoder", q, k, v, target, bias=bias)
    rows = zip(*(torch.split(x, lengths) for x in (q, k, v)), strict=True)
    wanted = [alone(*row, bias=bias, causal=True) for row in rows]
    torch.testing.assert_close(found, torch.cat(wanted))


def test_targets_see_all_of_their_own_text() -> None:
    batch = batch_of(LENGTHS)
    target = targets(batch, [(row, [5] * n) for row, n in SEQUENCES])
    q, k, v = some(15), some(16), some(16)
    found = attend("cross", q, k, v, target)
    per_row = [6, 0, 1, 3, 5]
    rows = zip(torch.split(q, per_row), *(torch.split(x, sorted(LENGTHS)) for x in (k, v)), strict=True)
    torch.testing.assert_close(found, torch.cat([alone(*row) for row in rows]))


@pytest.mark.parametrize("has_bias", [0, 1])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_step_sees_the_steps_before_it(has_bias: int, steps: int) -> None:
    batch, bias = batch_of(LENGTHS), biases()[has_bias]
    target = first_step(batch, 0)
    for _ in range(steps - 1):
        target = target.following(torch.zeros(5, dtype=torch.int64))
    q, k, v = some(5), some(5 * steps), some(5 * steps)
    found = attend("decoder", q, k, v, target, bias=bias)
    wanted = [alone(q[row : row + 1], k[row::5], v[row::5], bias=bias) for row in range(5)]
    torch.testing.assert_close(found, torch.cat(wanted))


TREE = [(0, [5, 6]), (0, [5, 6, 7, 8]), (0, [5, 9]), (2, [5]), (3, [5, 6, 7]), (3, [5, 6, 7]), (4, [5, 6, 6])]


@pytest.mark.parametrize("has_bias", [0, 1])
def test_what_sequences_begin_with_in_common_runs_once(has_bias: int) -> None:
    """Every token sees the tokens before it in its own sequences, wherever they run."""
    batch, bias = batch_of(LENGTHS), biases()[has_bias]
    target = prefix_tree(batch, TREE)
    assert target.shared is not None
    assert target.ids[0].tolist() == [5, 6, 7, 8, 9, 5, 5, 6, 7, 5, 6, 6]
    assert target.positions[0].tolist() == [0, 1, 2, 3, 1, 0, 0, 1, 2, 0, 1, 2]
    assert target.layout.lengths.tolist() == [5, 0, 1, 3, 3]
    assert target.last_tokens().tolist() == [1, 3, 4, 5, 8, 8, 11]
    q, k, v = (some(12) for _ in range(3))
    found = attend("decoder", q, k, v, target, bias=bias)
    for path in [[0, 1, 2, 3], [0, 4], [5], [6, 7, 8], [9, 10, 11]]:
        torch.testing.assert_close(found[path], alone(q[path], k[path], v[path], bias=bias, causal=True))


@pytest.mark.parametrize("left", [None, [0, 1, 2, 3, 4], [1, 3], [0, 4], [4]])
def test_a_step_sees_all_of_its_own_text(left: list[int] | None) -> None:
    """As many times as it is asked, also when rows have left the batch."""
    batch = batch_of([4, 1, 5, 2, 5])  # on a grid of its own, or with padding beside a longer one
    step = first_step(batch, 0)
    key, value = (some(17).transpose(0, 1)[None] for _ in range(2))
    rows = [*zip(*(torch.split(x[0].transpose(0, 1), [1, 2, 4, 5, 5]) for x in (key, value)), strict=True)]
    for turn in range(2):
        if turn and left is not None:
            step, rows = step.only(left), [rows[row] for row in left]
        q = some(len(rows))
        options: dict[str, Any] = {"packed": step}
        found = packed_attention(
            stack("cross"), q.transpose(0, 1)[None], key, value, None, scaling=SCALE, **options
        )
        wanted = [alone(q[i : i + 1], *row) for i, row in enumerate(rows)]
        torch.testing.assert_close(found[0][0], torch.cat(wanted))
