"""The heads of all resident adapters: different numbers of labels in one batch, without a loop over heads.

All weight rows lie one after another; a head is a span of them. One thread uses a `HeadBank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MIN_GROWTH = 64  # rows; beyond that an eighth of what there is
_CHUNK_ROWS = 32_768  # weight rows multiplied at a time, so that wide heads need no more than some 50 MB


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    count: int


class HeadBank:
    """Weight rows [N, H] and biases [N] of every head; spans are reused first-fit."""

    def __init__(self, hidden_size: int, device: torch.device) -> None:
        self._weight = torch.zeros(0, hidden_size, device=device)
        self._bias = torch.zeros(0, device=device)
        self._spans: dict[int, _Span] = {}
        self._free: list[_Span] = []

    def write(self, slot: int, weight: Tensor, bias: Tensor) -> None:
        """Give `slot` the head with weight [L, H] and bias [L]."""
        span = self._take(weight.shape[0])
        self._spans[slot] = span
        self._weight[span.start : span.start + span.count] = weight.to(self._weight)
        self._bias[span.start : span.start + span.count] = bias.to(self._bias)

    def clear(self, slot: int) -> None:
        """Give the span of `slot` back, if it has one, and join it with free neighbours."""
        own = [self._spans.pop(slot)] if slot in self._spans else []
        spans = sorted([*self._free, *own], key=lambda span: span.start)
        joined = spans[:1]
        for span in spans[1:]:
            last = joined[-1]
            if last.start + last.count == span.start:
                joined[-1] = _Span(last.start, last.count + span.count)
            else:
                joined.append(span)
        self._free = joined

    def read(
        self, pooled: Tensor, rows: Sequence[int], slots: Sequence[int]
    ) -> list[npt.NDArray[np.float32]]:
        """Logits [L] of head `slots[i]` on `pooled[rows[i]]`, pooled [B, H]; in the order of the reads."""
        spans = [self._spans[slot] for slot in slots]
        counts = np.array([span.count for span in spans])
        ends = np.cumsum(counts)
        within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        index = np.repeat([span.start for span in spans], counts) + within
        label, row = (
            torch.from_numpy(a).to(pooled.device) for a in (index, np.repeat(np.array(rows), counts))
        )
        chunks = zip(torch.split(label, _CHUNK_ROWS), torch.split(row, _CHUNK_ROWS), strict=True)
        logits = torch.cat([self._multiply(pooled, *chunk) for chunk in chunks])
        return np.split(logits.cpu().numpy(), ends[:-1])

    def _multiply(self, pooled: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Weight rows `labels` [N] times states `rows` [N], each with its own -> logits [N]."""
        products = self._weight.index_select(0, labels) * pooled.index_select(0, rows)  # [N, H]
        return products.sum(-1) + self._bias.index_select(0, labels)

    def _take(self, count: int) -> _Span:
        for i, span in enumerate(self._free):
            if span.count >= count:
                rest = _Span(span.start + count, span.count - count)
                self._free[i : i + 1] = [rest] if rest.count else []
                return _Span(span.start, count)
        self._grow(count)
        return self._take(count)

    def _grow(self, count: int) -> None:
        rows = self._weight.shape[0]
        extra = max(count, min(_MIN_GROWTH, 2 * count), rows // 8)
        weight = torch.cat([self._weight, self._weight.new_zeros(extra, self._weight.shape[1])])
        self._bias = torch.cat([self._bias, self._bias.new_zeros(extra)])
        self._weight = weight  # both or, without memory, none
        self._free.append(_Span(rows, extra))

    @property
    def nbytes(self) -> int:
        """Bytes on the device, spare rows included."""
        return self._weight.nbytes + self._bias.nbytes
