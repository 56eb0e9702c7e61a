"""The buffers that a recorded pass reads, one set for batches of about a size, and how a batch gets there.

T tokens and R rows that there is room for, n tokens and r rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..packed import PackedBatch
from ..segments import Segments

_LEAST_TOKENS = 64
_TOKENS_PER_ROW = 8  # room for a row for so many tokens; a batch of shorter rows takes larger buffers
_LEAST_LONGEST = 128  # what flash attention takes as one tile of queries


@dataclass(frozen=True, slots=True)
class Bucket:
    """Room for so many tokens and rows, the longest of so many tokens."""

    tokens: int
    rows: int
    longest: int

    @classmethod
    def of(cls, num_tokens: int, num_rows: int, longest: int) -> Bucket:
        """The smallest: tokens are a power of two or three quarters of one, so a third at most is padding.

        The longest row is told in powers of two; it is no buffer, but how far attention has to look.
        """
        tokens = _room(max(num_tokens, num_rows * _TOKENS_PER_ROW, _LEAST_TOKENS))
        return cls(tokens, tokens // _TOKENS_PER_ROW, max(_power(longest), _LEAST_LONGEST))


def _power(number: int) -> int:
    """The power of two that is not below it."""
    return 1 << (number - 1).bit_length()


def _room(number: int) -> int:
    power = _power(number)
    return power * 3 // 4 if number <= power * 3 // 4 else power


class Buffers:
    """`ids`, `type_ids` and `positions` [T], `states` [T, H] where a pass begins at a layer, and rows."""

    def __init__(self, bucket: Bucket, width: int, dtype: torch.dtype, device: torch.device) -> None:
        zeros = torch.zeros(4, bucket.tokens, dtype=torch.int64, device=device)
        self.ids, self.type_ids, self.positions, rows = zeros
        self.states = torch.zeros(bucket.tokens, width, dtype=dtype, device=device)
        bounds = torch.zeros(bucket.rows + 1, dtype=torch.int32, device=device)
        slots = torch.zeros(bucket.rows + 1, dtype=torch.int64, device=device)
        self.segments = Segments(bounds, slots, rows)

    def fill(self, batch: PackedBatch, slots: Tensor) -> None:
        """A batch whose rows have `slots` [r], or [1] if all have one; behind it everything is as if bare."""
        _put(self.ids, batch.ids[0], 0)
        _put(self.type_ids, batch.type_ids[0], 0)
        _put(self.positions, batch.positions[0], 0)
        if batch.entering is not None:
            _put(self.states, batch.entering.states, 0)
        at = self.segments
        _put(at.row_of_token, batch.layout.row_of_token, at.num_rows)
        _put(at.bounds, batch.bounds, batch.ids.shape[1])
        _put(at.slots, slots.expand(batch.num_rows), 0)


def _put(buffer: Tensor, values: Tensor, beyond: int) -> None:
    buffer[: len(values)].copy_(values, non_blocking=True)
    buffer[len(values) :].fill_(beyond)
