"""States that enter the lowest adapted layer: computed once in a run, read in every epoch by every learner.

Below that layer the frozen model gives a text the same states whatever is learnt, so a pass may begin with
them. That needs a family that is a plain stack of layers, texts without virtual tokens, and weights that are
the backbone's own; all else runs whole. Layers are numbered from 0. T tokens of all texts of a split.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modeling import Adapter, Backbone, Entering, PackedBatch
from modeling.layout import Ints, put, spans
from modeling.sharing import lowest_layer as lowest_of_taps
from training.loop.encode import Rows, state_batches

MAX_BYTES = 2 << 30
"""What the states of a run may take, unless told otherwise."""


def lowest_layer(backbone: Backbone, adapter: Adapter) -> int:
    """The lowest layer on which an adapter acts; 0 where a pass must be whole.

    It is the number of layers where an adapter acts behind all of them.
    """
    if adapter.weights is not None or adapter.virtual_tokens:
        return 0
    return lowest_of_taps(adapter.body, len(backbone.layers))


@dataclass(frozen=True, eq=False)
class StatesBelow:
    """What enters `layer` (1 or more) of all texts of a split: `states` [T, H], text i's from `starts[i]`.

    `known` [N] says of which texts.
    """

    layer: int
    states: Tensor
    starts: Ints
    lengths: Ints
    known: NDArray[np.bool_]

    @classmethod
    def room(cls, backbone: Backbone, rows: Rows, layer: int, dtype: torch.dtype) -> "StatesBelow":
        """A place for the states of these rows, to be filled."""
        lengths = np.array([len(text) for text in rows.encoded], dtype=np.int64)
        shape = (int(lengths.sum()), backbone.hidden_size)
        states = torch.empty(shape, dtype=dtype, device=backbone.device)
        known = np.zeros(len(lengths), dtype=np.bool_)
        return cls(layer, states, np.cumsum(lengths) - lengths, lengths, known)

    def note(self, batch: PackedBatch, texts: Sequence[int], found: Tensor) -> None:
        """Keep `found` [t, H] of a batch of these texts (their numbers in the split, as packed)."""
        self.states.index_copy_(0, self._places(batch, texts), found.to(self.states.dtype))
        self.known[np.array(texts)] = True

    def enter(self, batch: PackedBatch, texts: Sequence[int], dtype: torch.dtype) -> PackedBatch:
        """The batch of these texts with a pass that begins at the layer, in the backbone's number format."""
        assert self.known[np.array(texts)].all(), "states are read before they are known: this is a bug"
        states = self.states.index_select(0, self._places(batch, texts)).to(dtype)
        return replace(batch, entering=Entering(self.layer, states))

    def _places(self, batch: PackedBatch, texts: Sequence[int]) -> Tensor:
        chosen = np.array(texts, dtype=np.int64)[batch.order]
        same = np.array_equal(batch.layout.lengths, self.lengths[chosen])
        assert same, "states of other texts are read: this is a bug"
        return put(spans(self.starts[chosen], self.lengths[chosen]), self.states.device)


@dataclass(frozen=True)
class Below:
    """What enters `layer` of both splits of a run; None where a split runs whole, `told` says why.

    It serves every adapter whose lowest layer is this one or a higher one.
    """

    layer: int = 0
    train: StatesBelow | None = None
    validation: StatesBelow | None = None
    told: tuple[str, ...] = ()


def room_below(
    backbone: Backbone,
    train: Rows,
    validation: Rows,
    layer: int,
    *,
    max_bytes: int = MAX_BYTES,
    rounded: bool = False,
) -> Below:
    """Places for the states that enter `layer`, as far as `max_bytes` reach, to be filled.

    Those of train rows are kept in bfloat16 where that alone fits and training is `rounded` anyway.
    """
    if layer == 0:
        return Below()
    types = (torch.float32, torch.bfloat16) if rounded else (torch.float32,)
    of_train = _room(backbone, train, layer, max_bytes, types)
    left = max_bytes - (0 if of_train is None else of_train.states.nbytes)
    of_validation = _room(backbone, validation, layer, left, types[:1])
    lacking = [n for n, kept in (("train", of_train), ("validation", of_validation)) if kept is None]
    told = [
        f"the states below layer {layer} of all {name} rows take more than what is left of "
        f"{max_bytes / 1e9:.1f} GB: they are computed anew in every pass"
        for name in lacking
    ]
    return Below(layer, of_train, of_validation, tuple(told))


def _room(
    backbone: Backbone, rows: Rows, layer: int, most: int, types: Sequence[torch.dtype]
) -> StatesBelow | None:
    """Room in the first of the number formats in which all states take at most so many bytes."""
    numbers = sum(map(len, rows.encoded)) * backbone.hidden_size
    dtype = next((dtype for dtype in types if numbers * dtype.itemsize <= most), None)
    return None if dtype is None else StatesBelow.room(backbone, rows, layer, dtype)


def fill(backbone: Backbone, rows: Rows, below: StatesBelow) -> None:
    """Compute what is not known yet, because no pass for the head's features went over these rows."""
    with torch.no_grad():
        for batch in state_batches(rows):
            texts = rows.numbers(batch)
            if not below.known[np.array(texts)].all():
                packed = backbone.pack(rows.take(batch))
                below.note(packed, texts, backbone.states_entering(packed, below.layer))
