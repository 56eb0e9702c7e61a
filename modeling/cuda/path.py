"""The recorded path: a packed batch into buffers of its size, and a recorded pass over them.

A recording is right for every batch of its bucket that has the same kinds of adapters, whichever they are. It
is made anew when a bank has moved a part (banks grow by an eighth), and then all that read moved parts go.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbone import Backbone
from ..banks import Banks, Use
from ..body import Variant
from ..ops import OPS
from ..ops.base import BankParts
from ..packed import PackedBatch
from ..part import Part
from ..segments import SegmentCall, SegmentKernels, segment_kernels
from ..sites import ALL_NORM_SITES, Tap
from .buffers import Bucket, Buffers
from .layers import LayerPass
from .plan import RecordedPlan, plan_of
from .recording import Recorder, Run

MAX_RECORDINGS = 64  # the one that was used longest ago goes
_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class _Recording:
    """A pass, its buffers, and where the parts were that it reads."""

    run: Run
    buffers: Buffers
    read: list[tuple[Part, Tensor, Tensor]]

    @property
    def holds(self) -> bool:
        return all(part.data is data and part.index is index for part, data, index in self.read)


class RecordedPath:
    """The recorded path of one backbone for the adapters in its banks; one thread uses it.

    `num_recorded` counts recordings, also those that are gone.
    """

    def __init__(self, backbone: Backbone, banks: Banks, plan: RecordedPlan, kernels: SegmentKernels) -> None:
        self._backbone, self._banks, self._plan, self._kernels = backbone, banks, plan, kernels
        self._recorder = Recorder(backbone.device)
        self._recordings: OrderedDict[Hashable, _Recording] = OrderedDict()
        self.num_recorded = 0

    @classmethod
    def of(cls, backbone: Backbone, banks: Banks) -> RecordedPath | None:
        """On a GPU in half numbers, which its attention takes; None elsewhere, or without plan or Triton."""
        if backbone.device.type != "cuda" or backbone.dtype not in _HALF:
            return None
        if backbone.device.index not in (None, torch.cuda.current_device()):  # recordings go there
            return None
        return cls.on(backbone, banks)

    @classmethod
    def on(cls, backbone: Backbone, banks: Banks) -> RecordedPath | None:
        """`of` on any device; on a CPU its passes run as they are."""
        plan, kernels = plan_of(backbone), segment_kernels(backbone.device.type)
        return None if plan is None or kernels is None else cls(backbone, banks, plan, kernels)

    def suits(self, batch: PackedBatch) -> bool:
        """Whether it computes what the reference path would: the backbone's own weights, nothing at the taps
        but these banks, and of them what has a segment kernel.
        """
        if self._backbone.has_other_weights or not self._banks.act_alone():
            return False
        return all(
            _call(use) is not None and (tap.site in ALL_NORM_SITES or not OPS[_told(use)[0].op].replaces)
            for tap, use in self._uses()
        )

    def hidden(self, batch: PackedBatch, below: int | None = None) -> Tensor:
        """Last hidden states [T, H] of the batch that runs, in packed order; or those that enter `below`."""
        tokens, longest = batch.ids.shape[1], int(batch.layout.lengths.max())
        bucket = Bucket.of(tokens, batch.num_rows, longest)
        first = 0 if batch.entering is None else batch.entering.number
        acting = tuple((tap, variant) for tap, use in self._uses() for variant in (_told(use)[0],))
        recording = self._recording((bucket, first, below, acting), bucket, first, below)
        recording.buffers.fill(batch, self._banks.slots)
        return recording.run()[:tokens].clone()  # the next replay writes there

    def _recording(self, key: Hashable, bucket: Bucket, first: int, below: int | None) -> _Recording:
        found = self._recordings.get(key)
        if found is None or not found.holds:
            self._drop()
            found = self._recordings[key] = self._new(bucket, first, below)
        self._recordings.move_to_end(key)
        return found

    def _drop(self) -> None:
        """Recordings of moved parts, which keep their old memory; and one if there are too many."""
        for key in [key for key, recording in self._recordings.items() if not recording.holds]:
            del self._recordings[key]
        if len(self._recordings) >= MAX_RECORDINGS:
            self._recordings.popitem(last=False)

    def _new(self, bucket: Bucket, first: int, below: int | None) -> _Recording:
        plan, backbone = self._plan, self._backbone
        buffers = Buffers(bucket, plan.width, backbone.dtype, backbone.device)
        calls: dict[Tap, list[SegmentCall]] = {}
        for tap, use in self._uses():
            call = _call(use)
            assert call is not None, "the batch does not suit: this is a bug"
            calls.setdefault(tap, []).append(call)
        replaced = frozenset(tap for tap, bank in self._banks.acting.items() if bank.replaces)
        layers = LayerPass(plan, self._kernels, buffers, bucket.longest, calls, replaced)
        parts = {part: None for _, use in self._uses() for part in _told(use)[1].values()}
        self.num_recorded += 1
        run = self._recorder(lambda: layers.run(first, below))
        return _Recording(run, buffers, [(part, part.data, part.index) for part in parts])

    def _uses(self) -> Iterator[tuple[Tap, Use]]:
        return ((tap, use) for tap, bank in self._banks.acting.items() for use in bank.uses)


def _told(use: Use) -> tuple[Variant, BankParts]:
    return use.place.variant, use.place.parts


def _call(use: Use) -> SegmentCall | None:
    variant, parts = _told(use)
    return OPS[variant.op].segments(parts, variant.static)
