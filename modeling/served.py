"""ServedModel: one backbone with the banks and heads of every resident adapter; one thread uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import decoding
from .adapter import TEXT_TO_TEXT, PackedAdapter
from .backbone import Backbone
from .banks import Banks
from .head_bank import HeadBank
from .methods.exclusive import Weights
from .packed import PackedBatch
from .pooling import pool
from .text import Encoded

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Resident:
    """What is known of an adapter beside its parameters; `labels` are strings as ids (text to text).

    A text-to-text task without labels scores each text's own target.
    """

    pooling: str
    body_slot: int
    virtual_tokens: int
    labels: list[list[int]]
    weights: Weights | None


class ServedModel:
    """Adapters come and go by slot; a batch runs rows of any mixture of slots in one forward pass."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._banks = Banks(backbone)
        self._heads = HeadBank(backbone.hidden_size, backbone.device)
        self._residents: dict[int, _Resident] = {}
        self._free: list[int] = []
        self._in_place: tuple[int, Mapping[str, Tensor]] | None = None  # of the last exclusive adapter

    @torch.inference_mode()
    def install(self, packed: PackedAdapter) -> int:
        """Make an adapter resident and return its slot (1 or more)."""
        slot = self._free.pop() if self._free else len(self._residents) + 1
        is_text = packed.spec.kind == TEXT_TO_TEXT
        self._residents[slot] = _Resident(
            pooling=packed.spec.pooling,
            body_slot=slot if packed.body or packed.weights is not None else 0,
            virtual_tokens=packed.virtual_tokens,
            labels=self.backbone.label_ids(packed.spec.labels) if is_text else [],
            weights=packed.weights,
        )
        if packed.head_weight is not None and packed.head_bias is not None:
            self._heads.write(slot, packed.head_weight, packed.head_bias)
        if packed.body:
            self._banks.write(slot, packed.body, packed.shared)
        return slot

    @torch.inference_mode()
    def remove(self, slot: int) -> None:
        """Free a slot. Raises KeyError if it holds no adapter."""
        resident = self._residents.pop(slot)
        if resident.pooling != "none":
            self._heads.clear(slot)
        self._banks.clear(slot)
        if self._in_place is not None and self._in_place[0] == slot:
            self._in_place = None
        self._free.append(slot)

    def body_slot(self, slot: int) -> int:
        """The slot that a row must run under; 0 for an adapter that has only a head."""
        return self._residents[slot].body_slot

    def virtual_tokens(self, slot: int) -> int:
        """Virtual tokens that stand in front of each text of this adapter."""
        return self._residents[slot].virtual_tokens

    def exclusive(self, slot: int) -> bool:
        """Whether rows under this slot need a batch of their own."""
        resident = self._residents.get(slot)
        return resident is not None and resident.weights is not None

    def decoder_tokens(self, slot: int, text_tokens: int) -> int:
        """Tokens that the decoder reads to answer one text of `text_tokens` tokens."""
        resident = self._residents[slot]
        if resident.labels:
            return sum(map(len, resident.labels))
        return text_tokens if resident.pooling == "eos" else 0

    @torch.inference_mode()
    def run(
        self, encoded: Sequence[Encoded], body_slots: Sequence[int], reads: Sequence[tuple[int, int]]
    ) -> list[Logits]:
        """One pass: row i is `encoded[i]` under `body_slots[i]`; each read (row, slot) gives logits [L].

        Raises ValueError if the body of an exclusive adapter is not the only one in the batch.
        """
        with self._selected(encoded, body_slots) as batch, self.backbone.running(batch) as hidden:
            return self._read(hidden, batch, reads) if reads else []

    def generate(
        self, encoded: Sequence[Encoded], body_slots: Sequence[int], max_new_tokens: int
    ) -> list[str]:
        """Greedy answers of row i = `encoded[i]` under `body_slots[i]`, at most `max_new_tokens` tokens each.

        Raises ValueError as `run` does, and BackboneError on a backbone without a decoder.
        """
        found = self.generate_ids(encoded, body_slots, max_new_tokens)
        return [self.backbone.text.decode(ids) for ids in found]

    @torch.inference_mode()
    def generate_ids(
        self, encoded: Sequence[Encoded], body_slots: Sequence[int], max_new_tokens: int
    ) -> list[list[int]]:
        """`generate` as token ids, without the end of the sequence."""
        with self._selected(encoded, body_slots) as batch:
            return decoding.generate_ids(self.backbone, batch, max_new_tokens)

    @torch.inference_mode()
    def hidden(self, encoded: Sequence[Encoded], body_slots: Sequence[int]) -> list[Tensor]:
        """Last hidden states [T_i, H] of each row, in the caller's order; virtual tokens are left out."""
        with self._selected(encoded, body_slots) as batch, self.backbone.running(batch) as hidden:
            states, lengths = batch.text_only(hidden)
        rows = torch.split(states, lengths.tolist())
        return [rows[i] for i in batch.inverse.tolist()]

    @contextmanager
    def _selected(self, encoded: Sequence[Encoded], body_slots: Sequence[int]) -> Iterator[PackedBatch]:
        """The packed batch, with every row's adapter ready for it."""
        exclusive = {slot for slot in body_slots if self.exclusive(slot)}
        if exclusive and len(set(body_slots)) > 1:
            raise ValueError(f"slots {sorted(exclusive)} cannot share a batch with others: this is a bug")
        virtual = [self._residents[s].virtual_tokens if s else 0 for s in body_slots]
        batch = self.backbone.pack(encoded, virtual)
        slot = body_slots[0]
        own = self.backbone.weights_from(lambda: self._weights_of(slot)) if exclusive else nullcontext()
        with own, self._banks.selected(body_slots, batch.order):
            yield batch

    def _weights_of(self, slot: int) -> Mapping[str, Tensor]:
        """The weights under an exclusive slot; those of the last one are kept."""
        if self._in_place is None or self._in_place[0] != slot:
            self._in_place = None  # freed before the next is made
            weights = self._residents[slot].weights
            assert weights is not None
            self._in_place = slot, {name: w.to(self.backbone.dtype) for name, w in weights().items()}
        return self._in_place[1]

    def _read(self, hidden: Tensor, batch: PackedBatch, reads: Sequence[tuple[int, int]]) -> list[Logits]:
        logits: list[Logits] = [np.empty(0, np.float32)] * len(reads)
        by_pooling: dict[str, list[int]] = {}
        for i, (_, slot) in enumerate(reads):
            by_pooling.setdefault(self._residents[slot].pooling, []).append(i)
        for pooling, chosen in by_pooling.items():
            rows, slots = zip(*(reads[i] for i in chosen), strict=True)
            if pooling == "none":
                values = self._score(hidden, batch, rows, slots)
            else:
                values = self._heads.read(pool(self.backbone, hidden, batch, pooling), rows, slots)
            for i, found in zip(chosen, values, strict=True):
                logits[i] = found
        return logits

    def _score(
        self, hidden: Tensor, batch: PackedBatch, rows: Sequence[int], slots: Sequence[int]
    ) -> list[Logits]:
        """log p of every label string of slot i, or of the row's target, after the text of row i."""
        asked = []
        for row, slot in zip(rows, slots, strict=True):
            strings = self._residents[slot].labels or [list(batch.encoded[row].target)]
            if not strings[0]:
                raise ValueError(f"slot {slot} has no labels and row {row} no target: this is a bug")
            asked.append((row, strings))
        return [
            values.float().cpu().numpy() for values in decoding.score(self.backbone, hidden, batch, asked)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes that adapters and heads take on the device, spare rows included; exclusive ones apart."""
        return self._banks.nbytes + self._heads.nbytes

    @property
    def num_resident(self) -> int:
        """How many adapters are resident."""
        return len(self._residents)
