"""A pass over buffers, layer by layer, with what the adapters' ops ask of the segment kernels.

Nothing in it reads a number on the host, but for the torch forms that a CPU runs. T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..segments import SegmentCall, SegmentKernels, SegmentScales
from ..sites import Site, Tap
from .attention import attention
from .buffers import Buffers
from .plan import QKV, Layer, LayerNorm, RecordedPlan

Calls = Mapping[Tap, Sequence[SegmentCall]]


class LayerPass:
    """`calls` say what acts at a tap, in this order; at taps in `replaced` the first is in a norm's place."""

    def __init__(
        self,
        plan: RecordedPlan,
        kernels: SegmentKernels,
        buffers: Buffers,
        longest: int,
        calls: Calls,
        replaced: frozenset[Tap],
    ) -> None:
        self._plan, self._kernels, self._buffers, self._longest = plan, kernels, buffers, longest
        self._calls, self._replaced = calls, replaced

    def run(self, first: int, below: int | None) -> Tensor:
        """The states [T, H] behind layers `first` to `below`; from layer 1 on, of the states that enter."""
        x = self._buffers.states if first else self._embed()
        for layer in self._plan.layers[first:below]:
            x = self._layer(layer, x)
        return x

    def _embed(self) -> Tensor:
        tables, buffers = self._plan.embeddings, self._buffers
        x = tables.words.index_select(0, buffers.ids)
        self._act(tables.tap, x, x)
        if tables.types is not None:
            x = x + tables.types.index_select(0, buffers.type_ids)
        positions = tables.positions.index_select(0, buffers.positions)
        at, norm = buffers.segments, tables.norm
        x = self._kernels.norm(x, positions, at, norm.own, norm.eps)
        return x if tables.projection is None else tables.projection(x)

    def _layer(self, layer: Layer, x: Tensor) -> Tensor:
        taps = layer.taps
        context = self._context(layer, x)
        y = layer.out(context)
        self._act(taps[Site.ATTN_OUT], context, y)
        x = self._norm(taps[Site.ATTN_NORM], layer.attention_norm, y, x)
        inner = layer.up(x)
        self._act(taps[Site.FFN_UP], x, inner)
        inner = self._plan.activation(inner)
        self._act(taps[Site.FFN_INNER], inner, inner)
        y = layer.down(inner)
        self._act(taps[Site.FFN_OUT], inner, y)
        return self._norm(taps[Site.FFN_NORM], layer.norm, y, x)

    def _context(self, layer: Layer, x: Tensor) -> Tensor:
        qkv = layer.qkv(x).view(len(x), 3, -1)  # [T, 3, H]
        for number, site in enumerate(QKV):
            self._act(layer.taps[site], x, qkv[:, number])
        q, k, v = qkv.view(len(x), 3, self._plan.heads, -1).unbind(1)
        context = attention(q, k, v, self._buffers.segments.bounds, self._longest).flatten(1)
        self._act(layer.taps[Site.ATTN_CONTEXT], context, context)
        return context

    def _norm(self, tap: Tap, frozen: LayerNorm, y: Tensor, residual: Tensor) -> Tensor:
        """norm(y + residual), one scale and shift behind it in the same kernel, and then what else acts."""
        own, calls = frozen.own, [*self._calls.get(tap, ())]
        if tap in self._replaced:
            first = calls.pop(0)
            assert isinstance(first, SegmentScales), "a norm has a gain and a bias: this is a bug"
            own = first
        then = calls.pop(0) if calls and isinstance(calls[0], SegmentScales) else None
        assert then is None or isinstance(then, SegmentScales)
        at = self._buffers.segments
        x = self._kernels.norm(y, residual, at, own, frozen.eps, then)
        for call in calls:
            call.act(self._kernels, at, x, x)
        return x

    def _act(self, tap: Tap, x: Tensor, y: Tensor) -> None:
        """What acts at a tap, on y [T, O] in place: x [T, I]."""
        calls = self._calls.get(tap, ())
        if x is y and len(calls) > 1:
            x = x.clone()  # every op sees the module's own input
        for call in calls:
            call.act(self._kernels, self._buffers.segments, x, y)
