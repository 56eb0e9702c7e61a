"""ServedModel: one backbone with the banks and heads of every resident adapter; one thread uses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from . import decoding
from .adapter import PackedAdapter
from .backbone import Backbone
from .banks import Banks
from .cuda import RecordedPath
from .fast import FastPath
from .fast_text import FastText
from .head_bank import HeadBanks
from .layout import put, spans
from .methods.exclusive import Weights
from .packed import Entering, PackedBatch
from .readouts import Pass, Readout, Reads, readout_of
from .sharing import Streams, distinct, lowest_layer, streams_of
from .text import Encoded, EncodedRow

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an installed adapter sits, and what a row under it costs beside the tokens of its text.

    `body_slot` 0 means that it has no body: its rows are shared with every other such task. Rows under an
    `exclusive` body run in batches of their own. Reading its answer costs `decoder_tokens` plus
    `decoder_per_token` for each token of the text.
    """

    slot: int
    body_slot: int
    virtual_tokens: int = 0
    exclusive: bool = False
    decoder_tokens: int = 0
    decoder_per_token: int = 0


BARE = Placement(slot=0, body_slot=0)
"""The backbone without an adapter."""


@dataclass(frozen=True, slots=True)
class _Resident:
    """What is known of an adapter beside its parameters; `strings` are its labels as ids, for a decoder.

    Below layer `lowest` its rows are those of the bare backbone.
    """

    placement: Placement
    lowest: int
    readout: Readout
    pooling: str
    strings: list[list[int]]
    weights: Weights | None


Path = FastPath | RecordedPath


def recorded_or_fast(backbone: Backbone, banks: Banks) -> Path | None:
    """The recorded path where a backbone has it, which is on a GPU; else the fast path where it has that."""
    return RecordedPath.of(backbone, banks) or FastPath.of(backbone, banks)


class ServedModel:
    """Adapters come and go by slot; a batch runs rows of any mixture of slots in one forward pass.

    It takes the fast path where the backbone has one and the batch suits it, unless `fast` is false; `passes`
    counts how many passes went which way. `path_of` finds another fast path, `recorded_or_fast` for one.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        fast: bool = True,
        path_of: Callable[[Backbone, Banks], Path | None] = FastPath.of,
    ) -> None:
        self.backbone = backbone
        self.passes = Counter({"fast": 0, "reference": 0})
        self._banks = Banks(backbone)
        self._heads = HeadBanks(backbone.device)
        self._residents: dict[int, _Resident] = {}
        self._free: list[int] = []
        self._text = FastText.of(backbone, self._banks) if fast else None
        self._path = self._text or (path_of(backbone, self._banks) if fast else None)
        self._in_place: tuple[int, Mapping[str, Tensor]] | None = None  # of the last exclusive adapter

    @torch.inference_mode()
    def install(self, packed: PackedAdapter) -> int:
        """Make an adapter resident and return its slot (1 or more). A failure leaves nothing behind."""
        (slot,) = self.install_all([packed])
        return slot

    @torch.inference_mode()
    def install_all(self, many: Sequence[PackedAdapter]) -> list[int]:
        """Make adapters resident and return their slots; together it takes a small part of the time.

        A failure leaves none of them behind.
        """
        slots: list[int] = []
        try:
            for packed in many:
                slots.append(self._place(packed))
                if packed.head_weight is not None and packed.head_bias is not None:
                    self._heads.write(slots[-1], packed.head_weight, packed.head_bias)
            bodies = {slot: (one.body, one.shared) for slot, one in zip(slots, many, strict=True) if one.body}
            if bodies:
                self._banks.write_all(list(bodies), list(bodies.values()))
        except BaseException:  # no memory, most likely
            for slot in reversed(slots):
                self.remove(slot)
            raise
        return slots

    def _place(self, packed: PackedAdapter) -> int:
        """Register an adapter in a free slot, which has no parameters yet."""
        readout, exclusive = readout_of(packed.spec), packed.weights is not None
        strings = self.backbone.label_ids(packed.spec.labels) if readout.decodes else []
        cost = readout.cost(packed.spec, strings, self.backbone)
        slot = self._free.pop() if self._free else len(self._residents) + 1
        body_slot = slot if packed.body or exclusive else 0
        placement = Placement(slot, body_slot, packed.virtual_tokens, exclusive, cost.fixed, cost.per_token)
        lowest, pooling = self._lowest_layer(packed), packed.spec.pooling
        self._residents[slot] = _Resident(placement, lowest, readout, pooling, strings, packed.weights)
        return slot

    @torch.inference_mode()
    def remove(self, slot: int) -> None:
        """Free a slot. Raises KeyError if it holds no adapter."""
        del self._residents[slot]
        self._heads.clear(slot)
        self._banks.clear(slot)
        if self._in_place is not None and self._in_place[0] == slot:
            self._in_place = None
        self._free.append(slot)

    def placement(self, slot: int) -> Placement:
        """Where an adapter sits, and what its rows cost."""
        return self._residents[slot].placement

    @torch.inference_mode()
    def run(
        self, encoded: Sequence[EncodedRow], body_slots: Sequence[int], reads: Sequence[tuple[int, int]]
    ) -> list[Logits]:
        """One pass: row i is `encoded[i]` under `body_slots[i]`; each read (row, slot) gives logits [L].

        A row whose texts are encoded apart is a sequence for each. Sequences that nothing tells apart run
        once. Raises ValueError if the body of an exclusive adapter is not the only one in the batch.
        """
        sequences = [part for row in encoded for part in row.parts]
        ends = list(accumulate(len(row.parts) for row in encoded))
        places = [range(end - len(row.parts), end) for row, end in zip(encoded, ends, strict=True)]
        slots = [slot for slot, own in zip(body_slots, places, strict=True) for _ in own]
        left, is_row = distinct(sequences, slots)
        texts, own_slots = [sequences[i] for i in left], [slots[i] for i in left]
        with self._selected(texts, own_slots) as batch, self._running(batch) as hidden:
            run = Pass(self.backbone, batch, hidden, self._heads)
            return self._read(run, [([is_row[i] for i in places[row]], slot) for row, slot in reads])

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
        with self._selected(encoded, body_slots) as batch, self._running(batch) as hidden:
            return decoding.written_ids(self.backbone, hidden, batch, max_new_tokens)

    @torch.inference_mode()
    def hidden(self, encoded: Sequence[Encoded], body_slots: Sequence[int]) -> list[Tensor]:
        """Last hidden states [T_i, H] of each row, in the caller's order; virtual tokens are left out."""
        with self._selected(encoded, body_slots) as batch, self._running(batch) as hidden:
            states, lengths = batch.text_only(hidden)
        rows = torch.split(states, lengths.tolist())
        return [rows[i] for i in batch.inverse.tolist()]

    @contextmanager
    def _selected(self, encoded: Sequence[Encoded], body_slots: Sequence[int]) -> Iterator[PackedBatch]:
        """The packed batch, with every row's adapter ready for it."""
        placements = [self._residents[slot].placement if slot else BARE for slot in body_slots]
        exclusive = {one.slot for one in placements if one.exclusive}
        if exclusive and len(set(body_slots)) > 1:
            raise ValueError(f"slots {sorted(exclusive)} cannot share a batch with others: this is a bug")
        batch = self.backbone.pack(encoded, [one.virtual_tokens for one in placements])
        lowest = [self._residents[slot].lowest if slot else len(self.backbone.layers) for slot in body_slots]
        streams = streams_of(encoded, lowest, len(self.backbone.layers))
        if streams is not None:
            below = [slot if own < streams.layer else 0 for slot, own in zip(body_slots, lowest, strict=True)]
            batch = replace(batch, entering=self._entering(batch, streams, below))
        slot = body_slots[0]
        own = self.backbone.weights_from(lambda: self._weights_of(slot)) if exclusive else nullcontext()
        with own, self._banks.selected(body_slots, batch.order):
            yield batch

    @contextmanager
    def _running(self, batch: PackedBatch) -> Iterator[Tensor]:
        """The last hidden states [T, H] of a selected batch, by the fast path if it suits."""
        path = self._path if self._path is not None and self._path.suits(batch) else None
        self.passes["reference" if path is None else "fast"] += 1
        decoder = None if path is None else self._text
        through = None if path is None else path.hidden
        with self.backbone.running(batch if path is None else batch.unpadded(), through, decoder) as hidden:
            yield hidden

    def _states_entering(self, batch: PackedBatch, number: int) -> Tensor:
        """The states [T, H] that enter layer `number` of a selected batch, by the fast path if it suits."""
        path = self._path
        if path is None or not path.suits(batch):
            return self.backbone.states_entering(batch, number)
        with self.backbone.running(batch, partial(path.hidden, below=number)) as states:
            return states

    def _entering(self, batch: PackedBatch, streams: Streams, below: Sequence[int]) -> Entering:
        """What enters a layer in each row of a batch, once computed for all rows of a stream.

        `below` are the slots of all rows up to there.
        """
        texts = [batch.encoded[row] for row in streams.firsts]
        slots = [below[row] for row in streams.firsts]
        virtual = [self._residents[slot].placement.virtual_tokens if slot else 0 for slot in slots]
        trunk = self.backbone.pack(texts, virtual)
        with self._banks.selected(slots, trunk.order):
            states = self._states_entering(trunk, streams.layer)
        packed = np.argsort(trunk.order)[[streams.of_row[row] for row in batch.order]]
        places = spans(trunk.layout.starts[packed], trunk.layout.lengths[packed])
        return Entering(streams.layer, states.index_select(0, put(places, states.device)))

    def _lowest_layer(self, packed: PackedAdapter) -> int:
        """0 where a pass must be whole."""
        if packed.virtual_tokens or packed.weights is not None:
            return 0
        return lowest_layer(packed.body, len(self.backbone.layers))

    def _weights_of(self, slot: int) -> Mapping[str, Tensor]:
        """The weights under an exclusive slot; those of the last one are kept."""
        if self._in_place is None or self._in_place[0] != slot:
            self._in_place = None  # freed before the next is made
            weights = self._residents[slot].weights
            assert weights is not None
            self._in_place = slot, {name: w.to(self.backbone.dtype) for name, w in weights().items()}
        return self._in_place[1]

    def _read(self, run: Pass, reads: Sequence[tuple[Sequence[int], int]]) -> list[Logits]:
        """The logits of all reads (sequences of the batch, slot), those that are read alike together."""
        alike: dict[tuple[object, str], list[int]] = {}
        for number, (_, slot) in enumerate(reads):
            resident = self._residents[slot]
            alike.setdefault((type(resident.readout).read, resident.pooling), []).append(number)
        logits: list[Logits] = [np.empty(0, np.float32)] * len(reads)
        for (_, pooling), numbers in alike.items():
            rows, slots = zip(*(reads[number] for number in numbers), strict=True)
            residents = [self._residents[slot] for slot in slots]
            strings = [
                resident.readout.strings(resident.strings, run.batch.encoded[row[0]])
                for resident, row in zip(residents, rows, strict=True)
            ]
            asked = Reads(pooling, rows, slots, strings)
            for number, found in zip(numbers, residents[0].readout.read(run, asked), strict=True):
                logits[number] = found
        return logits

    @property
    def nbytes(self) -> int:
        """Bytes that adapters and heads take on the device, spare rows included; exclusive ones apart."""
        return self._banks.nbytes + self._heads.nbytes

    @property
    def num_recorded(self) -> int:
        """How many passes a GPU has recorded; adapters that come and go need no new ones."""
        return 0 if self._path is None else self._path.num_recorded

    @property
    def num_resident(self) -> int:
        """How many adapters are resident."""
        return len(self._residents)
