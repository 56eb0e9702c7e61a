"""The fast path: a packed batch through a plan's products and the row kernels, with what banks have for it.

It computes what the library's modules with `Tapped` compute. They stay the reference: training and proof run
on them, and so does whatever `suits` refuses. Where an op has no kernel, its own `apply` acts, as there.
T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .backbone import Backbone
from .banks import Banks, TapBank
from .kernels import Kernels, Rows, Scales, kernels
from .packed import PackedBatch
from .plan import QKV, FrozenAttention, FrozenNorm, Layer, Plan, Product, plan_of
from .sites import ALL_NORM_SITES, Site, Tap

# Tokens of a row from which on the library's attention is faster: it multiplies bfloat16 as such.
_LONG = {torch.float32: 384, torch.bfloat16: 80}


class FastPath:
    """The fast path of one backbone for the adapters in its banks; one thread uses it."""

    num_recorded = 0  # passes run as they are

    def __init__(self, backbone: Backbone, banks: Banks, plan: Plan, c: Kernels) -> None:
        self._backbone, self._banks, self._plan, self._c = backbone, banks, plan, c

    @classmethod
    def of(cls, backbone: Backbone, banks: Banks) -> FastPath | None:
        """None where the backbone has no plan, or this machine no kernels."""
        plan = plan_of(backbone)
        c = None if plan is None else kernels()
        return None if plan is None or c is None else cls(backbone, banks, plan, c)

    def suits(self, batch: PackedBatch) -> bool:
        """Whether it computes what the reference path would: whole passes, the backbone's own weights, and
        nothing at the taps but these banks.
        """
        if self._backbone.has_other_weights or not self._banks.act_alone():
            return False
        if self._plan.reach is not None and batch.layout.lengths[-1] > self._plan.reach:
            return False
        acting = self._banks.acting.items()
        return not any(bank.replaces for tap, bank in acting if tap.site not in ALL_NORM_SITES)

    def hidden(self, batch: PackedBatch, below: int | None = None) -> Tensor:
        """Last hidden states [T, H] of the batch that runs, in packed order; or those that enter `below`."""
        run, entering = _Pass(self._plan, self._c, self._banks, batch), batch.entering
        x = run.embed() if entering is None else entering.states
        layers = self._plan.layers[0 if entering is None else entering.number : below]
        if self._plan.final is not None:
            x = x if entering is None else x.clone()
            return run.normed_before(layers, x, self._plan.final if below is None else None)
        for layer in layers:
            x = run.layer(layer, x)
        return x


class _Pass:
    """One batch on its way through the layers."""

    def __init__(self, plan: Plan, c: Kernels, banks: Banks, batch: PackedBatch) -> None:
        self._plan, self._c, self._batch = plan, c, batch
        self._acting, self._at = banks.acting, Rows(batch.layout, banks.slots)
        self._masks: dict[tuple[int, int], Tensor] = {}
        self._long = _LONG[plan.embeddings.words.dtype]
        self._num_short = int(np.searchsorted(batch.layout.lengths, self._long))  # in order of length

    def embed(self) -> Tensor:
        """-> [T, H]."""
        tables, batch = self._plan.embeddings, self._batch
        ids = batch.ids[0]
        added: list[tuple[Tensor, Tensor | None]] = []
        if tables.positions is not None:
            places = batch.positions[0]
            added.append((tables.positions, places + tables.offset if tables.offset else places))
        if tables.types is not None:
            one_type = len(tables.types) == 1
            added.append((tables.types, torch.zeros_like(ids) if one_type else batch.type_ids[0]))
        if tables.norm is not None and tables.scale == 1 and tables.tap not in self._acting:
            added.append((tables.words, ids))
        else:
            words = tables.words.index_select(0, ids)
            added.append(
                (self._act(tables.tap, ids, words if tables.scale == 1 else words * tables.scale), None)
            )
        if tables.norm is None:
            assert len(added) == 1, "only words are read without a norm: this is a bug"
            return added[0][0]
        return tables.project(self._c.norm_of_rows(added, self._at, tables.norm.own, tables.norm.how))

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        """A layer with norms behind its parts: x [T, H] -> [T, H]."""
        y = self._attended(layer, x)
        assert layer.attention_norm is not None, "it stands behind attention: this is a bug"
        x = self._norm(layer.taps[Site.ATTN_NORM], layer.attention_norm, y, x)
        y = self._fed(layer, x)
        return self._norm(layer.taps[Site.FFN_NORM], layer.norm, y, x)

    def normed_before(
        self, layers: Sequence[Layer], x: Tensor, final: tuple[Tap, FrozenNorm] | None
    ) -> Tensor:
        """Layers with norms before their parts, and a norm behind the last: x [T, H], changed -> [T, H]."""
        y = torch.zeros_like(x)  # what is to be added to x
        for layer in layers:
            if layer.attention_norm is None:  # of a first layer, behind the norm of the embeddings
                y = self._attended(layer, x)
            else:
                y = self._norm(layer.taps[Site.ATTN_NORM], layer.attention_norm, y, x, keep=True)
                y = self._attended(layer, y)
            y = self._norm(layer.taps[Site.FFN_NORM], layer.norm, y, x, keep=True)
            y = self._fed(layer, y)
        return x + y if final is None else self._norm(*final, y, x)

    def _attended(self, layer: Layer, x: Tensor) -> Tensor:
        """What attention makes of x [T, H]: [T, H]."""
        qkv = layer.qkv(x)
        width = qkv.shape[1] // 3
        for number, site in enumerate(QKV):
            if layer.taps[site] in self._acting:
                own = qkv[:, number * width : (number + 1) * width]
                new = self._act(layer.taps[site], x, own)
                if new is not own:
                    own.copy_(new)
        if layer.attention.rotation is not None:
            turned, places = qkv[:, : 2 * width], self._batch.positions[0]
            self._c.rotate(turned, layer.attention.own.width, layer.attention.rotation, places, self._at)
        context = self._attention(layer.taps[Site.ATTN_CONTEXT], layer.attention, qkv)
        return self._act(layer.taps[Site.ATTN_OUT], context, layer.out(context))

    def _fed(self, layer: Layer, x: Tensor) -> Tensor:
        """What the feed-forward makes of x [T, H]: [T, H]."""
        taps = layer.taps
        if layer.gate is None:
            y = self._activated(taps[Site.FFN_UP], layer.up, x)
        else:
            y = self._activated(taps[Site.FFN_GATE], layer.gate, x)
            y.mul_(self._act(taps[Site.FFN_UP], x, layer.up(x)))
        y = self._act(taps[Site.FFN_INNER], y, y)
        return self._act(taps[Site.FFN_OUT], y, layer.down(y))

    def _attention(self, tap: Tap, what: FrozenAttention, qkv: Tensor) -> Tensor:
        """Every token sees its own row: qkv [T, 3 H] -> [T, H], with what acts on it."""
        rows = self._at.layout.num_rows
        out = qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3)
        scales = self._only_scales(tap) if self._num_short == rows else None
        if self._num_short:
            self._c.attention(qkv, out, what.own, self._at, self._num_short, scales)
        if scales is not None:
            return out
        for grid in self._batch.groups if self._num_short < rows else ():
            if grid.length >= self._long:
                own = slice(grid.start, grid.stop)
                out[own] = what.of_long(qkv[own], grid.rows, grid.length, self._mask(what, grid.length))
        return self._act(tap, out, out)

    def _mask(self, what: FrozenAttention, length: int) -> Tensor | None:
        """What is added to scores in rows of a length, made once for all layers that have the same."""
        if what.bias is None:
            return None
        key = id(what.bias), length
        if key not in self._masks:
            self._masks[key] = what.mask(length, self._plan.embeddings.words.dtype)
        return self._masks[key]

    def _activated(self, tap: Tap, product: Product, x: Tensor) -> Tensor:
        """A product and the activation, in one where nothing acts in between: x [T, H] -> [T, F]."""
        activation = self._plan.activation
        if tap not in self._acting:
            return product(x, activation)
        y, scales = product(x), self._only_scales(tap)
        if scales is None:
            y = self._act(tap, x, y)
        self._c.scale(y, self._at, scales, activation)
        return y

    def _norm(
        self, tap: Tap, frozen: FrozenNorm, y: Tensor, residual: Tensor, *, keep: bool = False
    ) -> Tensor:
        """norm(y + residual) with what acts there; in one call, unless it is more than gains and shifts.

        With `keep` the residual becomes the sum.
        """
        bank, then = self._acting.get(tap), None
        calls = [] if bank is None else [use.place.as_call() for use in bank.uses]
        if bank is None or not bank.replaces:
            calls = [frozen.own, *calls]
        own, then = calls[0], calls[1] if len(calls) == 2 else None
        if len(calls) <= 2 and isinstance(own, Scales) and (then is None or isinstance(then, Scales)):
            return self._c.norm(y, residual, self._at, own, frozen.how, then, keep=keep)
        assert bank is not None, "the frozen norm alone is one call: this is a bug"
        x = y + residual
        if keep:
            residual.copy_(x)
        return bank(x[None], x[None] if bank.replaces else frozen.module(x[None]))[0]

    def _only_scales(self, tap: Tap) -> Scales | None:
        """What acts at a tap, if that is one multiplication and addition."""
        bank = self._acting.get(tap)
        call = bank.uses[0].place.as_call() if bank is not None and len(bank.uses) == 1 else None
        return call if isinstance(call, Scales) else None

    def _act(self, tap: Tap, x: Tensor, y: Tensor) -> Tensor:
        """What acts at a tap, on y in place where kernels do it: x [T, I], y [T, O] -> [T, O]."""
        bank = self._acting.get(tap)
        return y if bank is None else self._act_all(bank, x, y)

    def _act_all(self, bank: TapBank, x: Tensor, y: Tensor) -> Tensor:
        if x is y and len(bank.uses) > 1:
            x = x.clone()  # every op sees the module's own input
        for use in bank.uses:
            call = use.place.as_call()
            if call is None:
                y = bank.apply(use, x[None], y[None])[0]
            else:
                call.act(self._c, self._at, use.rows, x, y)
        return y
