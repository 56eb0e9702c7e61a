"""Part: one parameter of one op at one place, for every resident adapter that has it.

Parts that the same adapters have share one table of rows: an adapter costs a number in each table, and there
are as many tables as kinds of adapters ask for, not as many as parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MIN_GROWTH = 8  # rows; beyond that a bank grows by an eighth, so that spare memory stays below 1.2 x

_MIN_SLOTS = 64  # that an index grows by: what read it where it was must be made anew


class Table:
    """Which row of its `parts` each adapter has: `index` [G] by slot, 0 for adapters without these parts."""

    def __init__(self, device: torch.device) -> None:
        self.index = torch.zeros(1, dtype=torch.int32, device=device)
        self.parts: list[Part] = []
        self._free: list[int] = []
        self._num_rows = 1  # row 0 is the identity
        self._asked: tuple[Tensor, Tensor] | None = None  # slots, and their rows

    def write(self, slot: int, values: Mapping[Part, Tensor]) -> None:
        """Give `slot` a row of its own with the values of all parts; a write that fails takes none."""
        free = self._free or self._more_rows()
        for part, value in values.items():
            part.data[free[-1]] = value.to(part.data)
        self.reserve(slot + 1)
        self.index[slot] = free[-1]
        self._asked = None
        free.pop()

    def write_all(self, slots: Sequence[int], values: Mapping[Part, Sequence[Tensor]]) -> None:
        """`write` of many adapters: of each part a value for each slot; if it fails, none has a row."""
        if len(self._free) < len(slots):
            self._more_rows(len(slots) - len(self._free))
        chosen = self._free[: -len(slots) - 1 : -1]  # in the order in which `write` takes them
        rows = torch.tensor(chosen, device=self.index.device)
        for part, own in values.items():
            part.data[rows] = torch.stack(list(own)).to(part.data)
        self.reserve(max(slots) + 1)
        self.index[torch.tensor(slots, device=self.index.device)] = rows.to(self.index)
        self._asked = None
        del self._free[-len(slots) :]

    def clear(self, slot: int) -> None:
        """Take the row of `slot` back, if it has one; the slot has the identity again."""
        row = int(self.index[slot]) if slot < len(self.index) else 0
        if row:
            self.index[slot] = 0
            self._asked = None
            self._free.append(row)

    def rows(self, slots: Tensor) -> Tensor:
        """slots [B] -> rows [B]; of one tensor of slots they are looked up once."""
        if self._asked is None or self._asked[0] is not slots:
            self._asked = slots, self.index.index_select(0, slots)
        return self._asked[1]

    def reserve(self, num_slots: int) -> None:
        """Make room for slot numbers below `num_slots`."""
        missing = num_slots - self.index.shape[0]
        if missing > 0:
            extra = max(missing, _MIN_SLOTS, self.index.shape[0] // 8)
            self.index = torch.cat([self.index, self.index.new_zeros(extra)])

    def split(self, parts: Sequence[Part]) -> Table:
        """A table of their own for some parts, from which an adapter differs that has them alone."""
        own = Table(self.index.device)
        own.index, own._free, own._num_rows = self.index.clone(), [*self._free], self._num_rows
        for part in parts:
            self.parts.remove(part)
            own.add(part)
        return own

    def add(self, part: Part) -> None:
        """Have a part's rows follow this table; it has as many as the others."""
        self.parts.append(part)
        part.table = self

    def _more_rows(self, missing: int = 1) -> list[int]:
        extra = max(_MIN_GROWTH, self._num_rows // 8, missing)
        for part in self.parts:
            part.reach(self._num_rows + extra)
        self._free.extend(range(self._num_rows + extra - 1, self._num_rows - 1, -1))
        self._num_rows += extra
        return self._free


class Part:
    """One parameter of one op at one tap, for every adapter that has it: `data` [S, ...], row 0 the identity.

    Its `table` says which row is whose.
    """

    def __init__(self, identity: Tensor, table: Table) -> None:
        self.data = identity.detach().float().to(table.index.device).clone()[None]
        self.table = table
        table.add(self)

    @property
    def index(self) -> Tensor:
        """[G]: by slot, the row of `data`."""
        return self.table.index

    def moved(self, data: Tensor, index: Tensor) -> bool:
        """Whether `data` or `index` are no longer these."""
        return self.data is not data or self.table.index is not index

    def gather(self, slots: Tensor) -> Tensor:
        """slots [B] -> values [B, ...]."""
        return self.data.index_select(0, self.table.rows(slots))

    def reach(self, num_rows: int) -> None:
        """Have at least so many rows. Nobody has the new ones yet, so their memory is not touched either."""
        if num_rows > self.data.shape[0]:
            grown = self.data.new_empty(num_rows, *self.data.shape[1:])
            grown[: self.data.shape[0]] = self.data
            self.data = grown

    @property
    def nbytes(self) -> int:
        """Bytes on the device, without the table's."""
        return self.data.nbytes
