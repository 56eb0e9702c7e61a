"""Which rows form a batch: by tokens and rows, by length, from a seed. Numbers only, no tensors."""

import random
from collections.abc import Sequence

_POOL_BATCHES = 8


def evaluation_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """All rows, shortest first, at most `batch_tokens` tokens a batch (a longer row stands alone)."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    return _cut(order, lengths, batch_tokens, len(lengths))


def training_batches(
    lengths: Sequence[int], *, batch_tokens: int, batch_size: int, seed: int, epoch: int
) -> list[list[int]]:
    """All rows once, in an order that `seed` and `epoch` alone decide.

    Rows are shuffled, then sorted by length within pools of a few batches, so that neighbours in a batch are
    about equally long; the batches are shuffled again, so that length does not follow the schedule.
    """
    chooser = random.Random(f"rows {seed} {epoch}")  # noqa: S311 - a reproducible order, not a secret
    order = list(range(len(lengths)))
    chooser.shuffle(order)
    pool = batch_size * _POOL_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        rows = sorted(order[start : start + pool], key=lambda row: lengths[row])
        batches += _cut(rows, lengths, batch_tokens, batch_size)
    chooser.shuffle(batches)
    return batches


def _cut(order: Sequence[int], lengths: Sequence[int], batch_tokens: int, batch_size: int) -> list[list[int]]:
    batches: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for row in order:
        if current and (tokens + lengths[row] > batch_tokens or len(current) == batch_size):
            batches.append(current)
            current, tokens = [], 0
        current.append(row)
        tokens += lengths[row]
    return [*batches, current] if current else batches
