"""The heads of all resident adapters: different numbers of labels in one batch.

All weight rows of one width F lie one after another; a head is a span of them. A head that gives many logits
of a batch is one product on its span; those that give few are multiplied together, row by row, so that the
last bit of an answer does not say who else asked. One thread uses a `HeadBank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_MIN_GROWTH = 64  # rows; beyond that an eighth of what there is
_CHUNK_VALUES = 12_582_912  # weights gathered at a time, so that heads of many labels need some 50 MB
_LEAST_PRODUCT = 64  # logits of one head in a batch from which on it is multiplied alone


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    count: int


class HeadBank:
    """Weight rows [N, F] and biases [N] of every head; spans are reused first-fit."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._weight = torch.zeros(0, width, device=device)
        self._bias = torch.zeros(0, device=device)
        self._spans: dict[int, _Span] = {}
        self._free: list[_Span] = []

    def write(self, slot: int, weight: Tensor, bias: Tensor) -> None:
        """Give `slot` the head with weight [L, F] and bias [L]."""
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
        self, features: Tensor, rows: Sequence[int], slots: Sequence[int]
    ) -> list[npt.NDArray[np.float32]]:
        """Logits [L] of head `slots[i]` on `features[rows[i]]`, of features [B, F]; in the order of reads."""
        found: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(slots)
        alike: dict[int, list[int]] = {}
        for number, slot in enumerate(slots):
            alike.setdefault(slot, []).append(number)
        few: list[int] = []
        for slot, numbers in alike.items():
            if len(numbers) * self._spans[slot].count < _LEAST_PRODUCT:
                few += numbers
                continue
            logits = self._product(features, [rows[number] for number in numbers], self._spans[slot])
            for number, own in zip(numbers, logits.cpu().numpy(), strict=True):
                found[number] = own
        if few:
            own_rows = self._gathered(features, [rows[n] for n in few], [self._spans[slots[n]] for n in few])
            for number, own in zip(few, own_rows, strict=True):
                found[number] = own
        return found

    def _product(self, features: Tensor, rows: Sequence[int], span: _Span) -> Tensor:
        """One head on some rows: [N, L]."""
        whole = rows == list(range(len(features)))
        own = features if whole else features.index_select(0, torch.tensor(rows, device=features.device))
        weight, bias = (x[span.start : span.start + span.count] for x in (self._weight, self._bias))
        return torch.addmm(bias, own, weight.t())

    def _gathered(
        self, features: Tensor, rows: Sequence[int], spans: Sequence[_Span]
    ) -> list[npt.NDArray[np.float32]]:
        """Many heads of few labels, without a loop over them: each row's own weight rows, multiplied."""
        counts = np.array([span.count for span in spans])
        ends = np.cumsum(counts)
        within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        index = np.repeat([span.start for span in spans], counts) + within
        label, row = (
            torch.from_numpy(a).to(features.device) for a in (index, np.repeat(np.array(rows), counts))
        )
        most = max(1, _CHUNK_VALUES // self._weight.shape[1])
        chunks = zip(torch.split(label, most), torch.split(row, most), strict=True)
        logits = torch.cat([self._multiply(features, *chunk) for chunk in chunks])
        return np.split(logits.cpu().numpy(), ends[:-1])

    def _multiply(self, features: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
        """Weight rows `labels` [N] times features `rows` [N], each with its own -> logits [N]."""
        products = self._weight.index_select(0, labels) * features.index_select(0, rows)  # [N, F]
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


class HeadBanks:
    """The heads of every width F that a readout gives them to read: a bank for each, made with its first."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._banks: dict[int, HeadBank] = {}

    def write(self, slot: int, weight: Tensor, bias: Tensor) -> None:
        """Give `slot` the head with weight [L, F] and bias [L]."""
        width = weight.shape[1]
        if width not in self._banks:
            self._banks[width] = HeadBank(width, self._device)
        self._banks[width].write(slot, weight, bias)

    def clear(self, slot: int) -> None:
        """Give back what `slot` has, if it has a head."""
        for bank in self._banks.values():
            bank.clear(slot)

    def read(
        self, features: Tensor, rows: Sequence[int], slots: Sequence[int]
    ) -> list[npt.NDArray[np.float32]]:
        """As `HeadBank.read`, by heads that are all as wide as the features [B, F]."""
        return self._banks[features.shape[1]].read(features, rows, slots)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, spare rows included."""
        return sum(bank.nbytes for bank in self._banks.values())
