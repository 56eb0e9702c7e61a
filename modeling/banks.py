"""Banks: the parameters of all resident adapters, by tap, op and part, gathered per row of a batch.

A bank exists from the first adapter that needs it. Each part keeps rows of its own, so an adapter costs
memory only where it has parameters; row 0 is the identity. One thread uses a `Banks` object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .ops import OPS, PackedTap
from .packed import PackedBatch
from .sites import Tap
from .tapped import attach, frozen_module

_MIN_GROWTH = 8  # rows; beyond that a bank grows by an eighth, so that spare memory stays below 1.2 x


class Part:
    """One parameter of one op at one tap, for every adapter that has it: `data` [S, ...], row 0 the identity.

    `index` [G] maps an adapter's slot to a row of `data`; 0 for adapters that do not have this part.
    """

    def __init__(self, identity: Tensor, device: torch.device) -> None:
        self.data = identity.detach().float().to(device).clone()[None]
        self.index = torch.zeros(1, dtype=torch.int32, device=device)
        self._free: list[int] = []

    def write(self, slot: int, value: Tensor) -> None:
        """Give `slot` a row of its own with `value`."""
        if not self._free:
            self._grow()
        row = self._free.pop()
        self.data[row] = value.to(self.data)
        self._cover(slot)
        self.index[slot] = row

    def clear(self, slot: int) -> None:
        """Take the row of `slot` back; the slot has the identity again."""
        row = int(self.index[slot])
        self.index[slot] = 0
        self._free.append(row)

    def gather(self, slots: Tensor) -> Tensor:
        """slots [B] -> values [B, ...]."""
        return self.data.index_select(0, self.index.index_select(0, slots))

    def reserve(self, num_slots: int) -> None:
        """Make room for slot numbers below `num_slots`."""
        self._cover(num_slots - 1)

    def _grow(self) -> None:
        rows = self.data.shape[0]
        extra = max(_MIN_GROWTH, rows // 8)
        self.data = torch.cat([self.data, self.data.new_zeros(extra, *self.data.shape[1:])])
        self._free.extend(range(rows + extra - 1, rows - 1, -1))

    def _cover(self, slot: int) -> None:
        missing = slot + 1 - self.index.shape[0]
        if missing > 0:
            extra = max(missing, self.index.shape[0] // 8)
            self.index = torch.cat([self.index, self.index.new_zeros(extra)])

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self.data.nbytes + self.index.nbytes


@dataclass(frozen=True, slots=True)
class _Rows:
    """The slots of a batch in packed order, and how rows become tokens; `uniform`: one slot for all."""

    slots: Tensor  # [B], or [1] when uniform
    row_of_token: Tensor  # [T]
    uniform: bool

    def gather(self, part: Part) -> Tensor:
        """Values per token [T, ...], or [1, ...] when the whole batch shares one slot."""
        values = part.gather(self.slots)
        return values if self.uniform else values.index_select(0, self.row_of_token)


class TapBank:
    """All parts at one tap; acts on the module there with those that the current batch needs."""

    def __init__(self, frozen: nn.Module) -> None:
        self.frozen = frozen
        self.parts: dict[tuple[str, str], Part] = {}  # (op, part name)
        self._current: list[tuple[str, dict[str, Part]]] = []
        self._rows: _Rows | None = None

    @property
    def replaces(self) -> bool:
        """Whether an op of the current batch computes the output without the frozen module."""
        return any(OPS[op].replaces for op, _ in self._current)

    def bind(self, needed: Iterable[tuple[str, str]], rows: _Rows | None) -> None:
        """Choose the parts that act until the next call."""
        by_op: dict[str, dict[str, Part]] = {}
        for op, name in needed:
            by_op.setdefault(op, {})[name] = self.parts[op, name]
        self._current = sorted(by_op.items(), key=lambda item: OPS[item[0]].order)
        self._rows = rows

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """x [1, T, I], y [1, T, O] -> [1, T, O]."""
        for op, parts in self._current:
            assert self._rows is not None, "a bank acts outside a batch: this is a bug"
            gathered = {name: self._rows.gather(part) for name, part in parts.items()}
            y = OPS[op].apply(self.frozen, gathered, x, y).to(y.dtype)
        return y


Signature = frozenset[tuple[Tap, str, str]]  # (tap, op, part) of everything an adapter has


class Banks:
    """The banks of one backbone. Slot 0 is the identity: a row without an adapter is an ordinary row."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._taps: dict[Tap, TapBank] = {}
        self._signatures: dict[int, Signature] = {}
        self._interned: dict[Signature, Signature] = {}

    def write(self, slot: int, body: Mapping[Tap, PackedTap]) -> None:
        """Put an adapter's parts into `slot`."""
        signature = frozenset((tap, packed.op, name) for tap, packed in body.items() for name in packed.parts)
        self._signatures[slot] = self._interned.setdefault(signature, signature)
        for tap, packed in body.items():
            for name, value in packed.parts.items():
                self._part(tap, packed.op, name).write(slot, value)
        for part in self._parts():
            part.reserve(slot + 1)

    def clear(self, slot: int) -> None:
        """Free everything that `slot` holds."""
        for tap, op, name in self._signatures.pop(slot, frozenset()):
            self._taps[tap].parts[op, name].clear(slot)

    @contextmanager
    def selected(self, slots: Sequence[int], batch: PackedBatch) -> Iterator[None]:
        """Let row i of the batch (in the caller's order) run under `slots[i]`."""
        device = self._backbone.device
        uniform = len(set(slots)) == 1
        packed = [slots[0]] if uniform else [slots[i] for i in batch.order]
        rows = _Rows(torch.tensor(packed, device=device), batch.row_of_token, uniform)
        needed = self._needed(slots)
        try:
            for tap, parts in needed.items():
                self._taps[tap].bind(parts, rows)
            yield
        finally:
            for tap in needed:
                self._taps[tap].bind((), None)

    def _needed(self, slots: Sequence[int]) -> dict[Tap, list[tuple[str, str]]]:
        signatures = {id(s): s for s in (self._signatures.get(slot) for slot in set(slots)) if s}
        needed: dict[Tap, list[tuple[str, str]]] = {}
        for tap, op, name in frozenset().union(*signatures.values()):
            needed.setdefault(tap, []).append((op, name))
        return needed

    def _part(self, tap: Tap, op: str, name: str) -> Part:
        if tap not in self._taps:
            bank = TapBank(frozen_module(self._backbone.model, tap.path))
            attach(self._backbone.model, tap, bank)
            self._taps[tap] = bank
        bank = self._taps[tap]
        if (op, name) not in bank.parts:
            identity = OPS[op].identity(tap, bank.frozen)[name]
            bank.parts[op, name] = Part(identity, self._backbone.device)
        return bank.parts[op, name]

    def _parts(self) -> Iterator[Part]:
        for bank in self._taps.values():
            yield from bank.parts.values()

    @property
    def nbytes(self) -> int:
        """Bytes on the device, spare rows included."""
        return sum(part.nbytes for part in self._parts())
