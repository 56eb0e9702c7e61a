"""A batch without padding: B sequences as one row of T tokens.

Hugging Face models run unmodified on one packed row `[1, T]`: positions are given explicitly, and only
the attention function (`attention.py`) knows where a sequence ends. Rows are packed in order of length,
so that neighbours of equal length share one attention call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from .layout import Group, Ints, Layout, Masks, put, spans
from .text import Encoded


@dataclass(frozen=True, slots=True, eq=False)
class Entering:
    """What enters layer `number` (1 or more) of a stack when a batch runs: states [T, H] in packed order."""

    number: int
    states: Tensor


@dataclass(frozen=True, eq=False)  # without slots: indices are made when first asked for, and kept
class PackedBatch:
    """B sequences, each with its virtual tokens in front, as one row of T tokens, in order of length.

    `order[i]` is the caller's number of packed row i, `inverse` [B] undoes it on tensors; `lengths` [B] in
    tokens, virtual ones included; `virtual` [B] virtual tokens of each row. `encoded` stands as given.
    With `entering` a pass begins at a layer.
    """

    ids: Tensor  # [1, T]; at virtual tokens a placeholder
    type_ids: Tensor  # [1, T]
    positions: Tensor  # [1, T]
    order: list[int]
    inverse: Tensor  # [B]
    lengths: Tensor  # [B]
    virtual: Ints  # [B], packed order
    layout: Layout
    encoded: Sequence[Encoded]
    masks: Masks = field(default_factory=dict)
    entering: Entering | None = None

    @property
    def num_rows(self) -> int:
        return len(self.order)

    @property
    def groups(self) -> list[Group]:
        return self.layout.subset(None).groups

    def unpadded(self) -> PackedBatch:
        """The same for who needs no padded grid."""
        if not self.layout.padded:
            return self
        return replace(self, layout=Layout.of(self.layout.lengths, self.ids.device))

    @cached_property
    def bounds(self) -> Tensor:
        """Where rows begin, and the end [B + 1]."""
        return pad(self.lengths.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def text_starts(self) -> Tensor:
        """Each row's first token behind the virtual ones [B]."""
        return put(self.layout.starts + self.virtual, self.ids.device)

    def text_only(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """hidden [T, H] -> states of the texts' own tokens, and how many each row has [B]."""
        if not self.virtual.any():
            return hidden, self.lengths
        index, lengths = self._text_tokens
        return hidden.index_select(0, index), lengths

    @cached_property
    def _text_tokens(self) -> tuple[Tensor, Tensor]:
        own = self.layout.lengths - self.virtual
        index = spans(self.layout.starts + self.virtual, own)
        return put(index, self.ids.device), put(own, self.ids.device)

    @cached_property
    def virtual_tokens(self) -> Tensor:
        """The places of all virtual tokens, row by row."""
        return put(spans(self.layout.starts, self.virtual), self.ids.device)


def joined(batches: Sequence[PackedBatch]) -> PackedBatch:
    """Several batches as one, each with its rows together and in its own order; row i of the n-th is the
    caller's number i after those of the batches before it.

    Raises ValueError unless all begin at the same layer.
    """
    if len({batch.entering and batch.entering.number for batch in batches}) > 1:
        raise ValueError("batches that begin at different layers cannot be joined: this is a bug")
    first, device = batches[0], batches[0].ids.device
    before = np.cumsum([0, *(batch.num_rows for batch in batches)])
    order = [int(n) + i for n, batch in zip(before, batches, strict=False) for i in batch.order]
    lengths = np.concatenate([batch.layout.lengths for batch in batches])
    entering = [batch.entering.states for batch in batches if batch.entering is not None]
    return PackedBatch(
        ids=torch.cat([batch.ids for batch in batches], dim=1),
        type_ids=torch.cat([batch.type_ids for batch in batches], dim=1),
        positions=torch.cat([batch.positions for batch in batches], dim=1),
        order=order,
        inverse=put(np.argsort(order), device),
        lengths=put(lengths, device),
        virtual=np.concatenate([batch.virtual for batch in batches]),
        layout=Layout.of(lengths, device, padded=first.layout.padded),
        encoded=[text for batch in batches for text in batch.encoded],
        entering=first.entering and Entering(first.entering.number, torch.cat(entering)),
    )


def pack(
    encoded: Sequence[Encoded],
    *,
    first_position: int,
    device: torch.device,
    virtual: int | Sequence[int] = 0,
    padded: bool = False,
) -> PackedBatch:
    """Lay out sequences one after another. Raises ValueError for an empty batch or an empty sequence."""
    extra = [virtual] * len(encoded) if isinstance(virtual, int) else list(virtual)
    lengths_of = [len(e) + v for e, v in zip(encoded, extra, strict=True)]
    if not encoded or min(map(len, encoded)) == 0:
        raise ValueError("a batch needs at least one sequence, and every sequence at least one token")
    order = sorted(range(len(encoded)), key=lengths_of.__getitem__)
    lengths = np.array([lengths_of[i] for i in order], dtype=np.int64)
    layout = Layout.of(lengths, device, padded=padded)
    total = int(lengths.sum())
    places = np.arange(total) - np.repeat(layout.starts, lengths)
    front = {v: [0] * v for v in set(extra)}
    ids = (chain(front[extra[i]], encoded[i].ids) for i in order)
    types = (chain(front[extra[i]], encoded[i].type_ids) for i in order)
    return PackedBatch(
        ids=put(np.fromiter(chain.from_iterable(ids), np.int64, total), device)[None],
        type_ids=put(np.fromiter(chain.from_iterable(types), np.int64, total), device)[None],
        positions=put(places + first_position, device)[None],
        order=order,
        inverse=put(np.argsort(np.array(order)), device),
        lengths=put(lengths, device),
        virtual=np.array([extra[i] for i in order], dtype=np.int64),
        layout=layout,
        encoded=encoded,
    )
