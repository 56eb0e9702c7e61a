"""Part: one parameter of one op at one place, for every resident adapter that has it."""

from __future__ import annotations

import torch
from torch import Tensor

_MIN_GROWTH = 8  # rows; beyond that a bank grows by an eighth, so that spare memory stays below 1.2 x


class Part:
    """One parameter of one op at one tap, for every adapter that has it: `data` [S, ...], row 0 the identity.

    `index` [G] maps an adapter's slot to a row of `data`; 0 for adapters that do not have this part.
    """

    def __init__(self, identity: Tensor, device: torch.device) -> None:
        self.data = identity.detach().float().to(device).clone()[None]
        self.index = torch.zeros(1, dtype=torch.int32, device=device)
        self._free: list[int] = []
        self.noted: tuple[Tensor, Tensor, object] | None = None  # what a reader keeps of data and index

    def write(self, slot: int, value: Tensor) -> None:
        """Give `slot` a row of its own with `value`; a write that fails takes none."""
        if not self._free:
            self._grow()
        row = self._free[-1]
        self.data[row] = value.to(self.data)
        self.reserve(slot + 1)
        self.index[slot] = row
        self._free.pop()

    def clear(self, slot: int) -> None:
        """Take the row of `slot` back, if it has one; the slot has the identity again."""
        if row := int(self.index[slot]):
            self.index[slot] = 0
            self._free.append(row)

    def gather(self, slots: Tensor) -> Tensor:
        """slots [B] -> values [B, ...]."""
        return self.data.index_select(0, self.index.index_select(0, slots))

    def reserve(self, num_slots: int) -> None:
        """Make room for slot numbers below `num_slots`."""
        missing = num_slots - self.index.shape[0]
        if missing > 0:
            extra = max(missing, self.index.shape[0] // 8)
            self.index = torch.cat([self.index, self.index.new_zeros(extra)])

    def _grow(self) -> None:
        rows = self.data.shape[0]
        extra = max(_MIN_GROWTH, rows // 8)
        self.data = torch.cat([self.data, self.data.new_zeros(extra, *self.data.shape[1:])])
        self._free.extend(range(rows + extra - 1, rows - 1, -1))

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.data.nbytes + self.index.nbytes
