"""The fast path: a packed batch through a plan's products and the row kernels, with what banks have for it.

It computes what the library's modules with `Tapped` compute. They stay the reference: training and proof run
on them, and so does whatever `suits` refuses. Where an op has no kernel, its own `apply` acts, as there.
T tokens, H hidden.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .backbone import Backbone
from .banks import Banks, TapBank, Use
from .kernels import Kernels, RowCall, Rows, Scales, kernels
from .ops import OPS
from .packed import PackedBatch
from .plan import QKV, FrozenNorm, Layer, Plan, plan_of
from .sites import ALL_NORM_SITES, Site, Tap
from .tapped import Tapped

_LONG = 384  # tokens of a row from which on the library's attention is faster


class FastPath:
    """The fast path of one backbone for the adapters in its banks; one thread uses it."""

    num_recorded = 0  # passes run as they are

    def __init__(self, backbone: Backbone, banks: Banks, plan: Plan, c: Kernels) -> None:
        self._backbone, self._banks, self._plan, self._c = backbone, banks, plan, c
        paths = {tap.path.rpartition(".") for tap in backbone.taps}
        self._places = [(backbone.model.get_submodule(parent)._modules, name) for parent, _, name in paths]

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
        if self._backbone.has_other_weights:
            return False
        modules = (children[name] for children, name in self._places)
        acts = (act for module in modules if isinstance(module, Tapped) for act in module.acts)
        if any(not act.idle and not self._banks.owns(tap, act) for tap, act, _ in acts):
            return False
        acting = self._banks.acting.items()
        return not any(bank.replaces for tap, bank in acting if tap.site not in ALL_NORM_SITES)

    def hidden(self, batch: PackedBatch, below: int | None = None) -> Tensor:
        """Last hidden states [T, H] of the batch that runs, in packed order; or those that enter `below`."""
        run, entering = _Pass(self._plan, self._c, self._banks, batch), batch.entering
        x = run.embed() if entering is None else entering.states
        for layer in self._plan.layers[0 if entering is None else entering.number : below]:
            x = run.layer(layer, x)
        return x


class _Pass:
    """One batch on its way through the layers."""

    def __init__(self, plan: Plan, c: Kernels, banks: Banks, batch: PackedBatch) -> None:
        self._plan, self._c, self._batch = plan, c, batch
        self._acting, self._at = banks.acting, Rows(batch.layout, banks.slots)
        self._num_short = int(np.searchsorted(batch.layout.lengths, _LONG))  # rows are in order of length

    def embed(self) -> Tensor:
        """-> [T, H]."""
        tables, batch = self._plan.embeddings, self._batch
        ids = batch.ids[0]
        x = self._act(tables.tap, ids, tables.words.index_select(0, ids))
        if tables.types is not None:
            x += tables.types.index_select(0, batch.type_ids[0]) if len(tables.types) > 1 else tables.types
        positions = tables.positions.index_select(0, batch.positions[0])
        return tables.project(self._c.norm(x, positions, self._at, tables.norm.own, tables.norm.eps))

    def layer(self, layer: Layer, x: Tensor) -> Tensor:
        """x [T, H] -> [T, H]."""
        taps, width = layer.taps, x.shape[1]
        qkv = layer.qkv(x)
        for number, site in enumerate(QKV):
            if taps[site] in self._acting:
                own = qkv[:, number * width : (number + 1) * width]
                new = self._act(taps[site], x, own)
                if new is not own:
                    own.copy_(new)
        context = self._attention(taps[Site.ATTN_CONTEXT], qkv)
        y = self._act(taps[Site.ATTN_OUT], context, layer.out(context))
        x = self._norm(taps[Site.ATTN_NORM], layer.attention_norm, y, x)
        inner = self._inner(layer, x)
        y = self._act(taps[Site.FFN_OUT], inner, layer.down(inner))
        return self._norm(taps[Site.FFN_NORM], layer.norm, y, x)

    def _attention(self, tap: Tap, qkv: Tensor) -> Tensor:
        """Every token sees its own row: qkv [T, 3 H] -> [T, H], with what acts on it."""
        plan, rows = self._plan, self._at.layout.num_rows
        out = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        scales = self._only_scales(tap) if self._num_short == rows else None
        if self._num_short:
            self._c.attention(qkv, out, plan.heads, self._at, self._num_short, scales)
        if scales is not None:
            return out
        for grid in self._batch.groups if self._num_short < rows else ():
            if grid.length >= _LONG:
                own = qkv[grid.start : grid.stop].view(grid.rows, grid.length, 3, plan.heads, -1)
                q, k, v = own.permute(2, 0, 3, 1, 4)
                long = scaled_dot_product_attention(q, k, v).transpose(1, 2)
                out[grid.start : grid.stop] = long.reshape(grid.stop - grid.start, -1)
        return self._act(tap, out, out)

    def _inner(self, layer: Layer, x: Tensor) -> Tensor:
        """The feed-forward's inner states [T, F]; the activation is part of the product where it can be."""
        tap, activation = layer.taps[Site.FFN_UP], self._plan.activation
        if tap not in self._acting:
            y = layer.up(x, activation)
        else:
            y, scales = layer.up(x), self._only_scales(tap)
            if scales is None:
                y = self._act(tap, x, y)
            self._c.scale(y, self._at, scales, activation)
        return self._act(layer.taps[Site.FFN_INNER], y, y)

    def _norm(self, tap: Tap, frozen: FrozenNorm, y: Tensor, residual: Tensor) -> Tensor:
        """norm(y + residual) with what acts there; in one call, unless it is more than gains and shifts."""
        bank = self._acting.get(tap)
        if bank is None:
            return self._c.norm(y, residual, self._at, frozen.own, frozen.eps)
        calls = [_call(use) for use in bank.uses]
        own, *then = calls if bank.replaces else [frozen.own, *calls]
        if isinstance(own, Scales) and not then:
            return self._c.norm(y, residual, self._at, own, frozen.eps)
        if isinstance(own, Scales) and len(then) == 1 and isinstance(then[0], Scales):
            return self._c.norm(y, residual, self._at, own, frozen.eps, then[0])
        x = (y + residual)[None]
        return bank(x, x if bank.replaces else frozen.module(x))[0]

    def _only_scales(self, tap: Tap) -> Scales | None:
        """What acts at a tap, if that is one multiplication and addition."""
        bank = self._acting.get(tap)
        call = _call(bank.uses[0]) if bank is not None and len(bank.uses) == 1 else None
        return call if isinstance(call, Scales) else None

    def _act(self, tap: Tap, x: Tensor, y: Tensor) -> Tensor:
        """What acts at a tap, on y in place where kernels do it: x [T, I], y [T, O] -> [T, O]."""
        bank = self._acting.get(tap)
        return y if bank is None else self._act_all(bank, x, y)

    def _act_all(self, bank: TapBank, x: Tensor, y: Tensor) -> Tensor:
        if x is y and len(bank.uses) > 1:
            x = x.clone()  # every op sees the module's own input
        for use in bank.uses:
            call = _call(use)
            if call is None:
                y = bank.apply(use, x[None], y[None])[0]
            else:
                call.act(self._c, self._at, use.rows, x, y)
        return y


def _call(use: Use) -> RowCall | None:
    return OPS[use.variant.op].rows(use.parts, use.variant.static)
