"""ServedModel: one backbone with the banks and heads of every resident adapter; one thread uses it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .adapter import PackedAdapter
from .backbone import Backbone
from .banks import Banks
from .head_bank import HeadBank
from .packed import PackedBatch
from .text import Encoded


class ServedModel:
    """Adapters come and go by slot; a batch runs rows of any mixture of slots in one forward pass."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._banks = Banks(backbone)
        self._heads = HeadBank(backbone.hidden_size, backbone.device)
        self._poolings: dict[int, str] = {}
        self._bodies: dict[int, int] = {}
        self._free: list[int] = []

    @torch.inference_mode()
    def install(self, packed: PackedAdapter) -> int:
        """Make an adapter resident and return its slot (1 or more)."""
        slot = self._free.pop() if self._free else len(self._poolings) + 1
        self._poolings[slot] = packed.spec.pooling
        self._bodies[slot] = slot if packed.body else 0
        self._heads.write(slot, packed.head_weight, packed.head_bias)
        if packed.body:
            self._banks.write(slot, packed.body)
        return slot

    @torch.inference_mode()
    def remove(self, slot: int) -> None:
        """Free a slot. Raises KeyError if it holds no adapter."""
        del self._poolings[slot]
        del self._bodies[slot]
        self._heads.clear(slot)
        self._banks.clear(slot)
        self._free.append(slot)

    def body_slot(self, slot: int) -> int:
        """The slot that a row must run under; 0 for an adapter that has only a head."""
        return self._bodies[slot]

    @torch.inference_mode()
    def run(
        self, encoded: Sequence[Encoded], body_slots: Sequence[int], reads: Sequence[tuple[int, int]]
    ) -> list[npt.NDArray[np.float32]]:
        """One pass: row i is `encoded[i]` under `body_slots[i]`; each read (row, slot) gives logits [L]."""
        batch = self.backbone.pack(encoded)
        with self._banks.selected(body_slots, batch):
            hidden = self.backbone.hidden(batch)
        return self._read(hidden, batch, reads) if reads else []

    @torch.inference_mode()
    def hidden(self, encoded: Sequence[Encoded], body_slots: Sequence[int]) -> list[Tensor]:
        """Last hidden states [T_i, H] of each row, in the caller's order."""
        batch = self.backbone.pack(encoded)
        with self._banks.selected(body_slots, batch):
            hidden = self.backbone.hidden(batch)
        rows = torch.split(hidden, batch.lengths.tolist())
        return [rows[i] for i in batch.inverse.tolist()]

    def _read(
        self, hidden: Tensor, batch: PackedBatch, reads: Sequence[tuple[int, int]]
    ) -> list[npt.NDArray[np.float32]]:
        logits: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(reads)
        by_pooling: dict[str, list[int]] = {}
        for i, (_, slot) in enumerate(reads):
            by_pooling.setdefault(self._poolings[slot], []).append(i)
        for pooling, chosen in by_pooling.items():
            pooled = self.backbone.pool(hidden, batch, pooling)
            rows, slots = zip(*(reads[i] for i in chosen), strict=True)
            for i, values in zip(chosen, self._heads.read(pooled, rows, slots), strict=True):
                logits[i] = values
        return logits

    @property
    def nbytes(self) -> int:
        """Bytes that adapters and heads take on the device, spare rows included."""
        return self._banks.nbytes + self._heads.nbytes

    @property
    def num_resident(self) -> int:
        """How many adapters are resident."""
        return len(self._poolings)
