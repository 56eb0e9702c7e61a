"""The fast path of an encoder-decoder: whole batches, and steps of generation, through a plan's products.

It computes what the library's modules with `Tapped` compute, which stay the reference (see `fast.py`).
T tokens of the texts or, in the decoder, of the targets; H hidden.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .acts import Acts
from .attention import Batch, packed_attention
from .backbone import Backbone
from .banks import Banks, TapBank
from .kernels import Kernels, Rows, Spans, TextKernels, kernels, text_kernels
from .layout import Ints, Layout
from .ops import OPS
from .packed import PackedBatch
from .plan import QKV
from .sites import ALL_NORM_SITES, Site
from .steps import Memory, StepBatch
from .tapped import frozen_module
from .target import TargetBatch
from .text_plan import Attending, Forward, RootNorm, TextPlan, TextStack, text_plan_of

_LONG = 160  # tokens of a row from which on the library's attention is faster


class FastText:
    """The fast path of one encoder-decoder for the adapters in its banks; one thread uses it."""

    num_recorded = 0  # passes run as they are

    def __init__(
        self, backbone: Backbone, banks: Banks, plan: TextPlan, c: Kernels, text: TextKernels
    ) -> None:
        self._backbone, self._banks, self._plan, self._c, self._text = backbone, banks, plan, c, text
        (self._head,) = (tap for tap in backbone.taps if tap.site is Site.LM_HEAD)
        self._shifted: tuple[Layout, tuple[Tensor, Tensor]] | None = None  # of the rows that write

    @classmethod
    def of(cls, backbone: Backbone, banks: Banks) -> FastText | None:
        """None where the backbone has no such plan, or this machine no kernels."""
        if not backbone.is_encoder_decoder:
            return None
        c, text = kernels(), text_kernels()
        plan = None if text is None else text_plan_of(backbone, text)
        return None if c is None or text is None or plan is None else cls(backbone, banks, plan, c, text)

    def suits(self, batch: PackedBatch) -> bool:
        """Whether it computes what the reference path would: the backbone's own weights, and nothing at the
        taps but these banks.
        """
        if self._backbone.has_other_weights or not self._banks.act_alone():
            return False
        acting = self._banks.acting.items()
        return not any(bank.replaces for tap, bank in acting if tap.site not in ALL_NORM_SITES)

    def hidden(self, batch: PackedBatch, below: int | None = None) -> Tensor:
        """Last hidden states [T, H] of the encoder, in packed order."""
        assert below is None, "an encoder-decoder runs whole: this is a bug"
        run, stack = self._pass(self._plan.encoder, batch), self._plan.encoder
        x = run.embed(batch.ids[0])
        for layer in stack.layers:
            x = run.own(layer.own, x, None)
            x = run.forward(layer.forward, x)
        return run.norm(stack.norm, x)

    def decode(self, hidden: Tensor, target: TargetBatch | StepBatch, memory: Memory | None) -> Tensor:
        """Decoder states [T, H] of the target tokens, on the states of the batch that runs."""
        assert self._backbone.source is not None, "a decoder runs within a batch: this is a bug"
        source, memory = self._backbone.source.layout, Memory() if memory is None else memory
        run, stack = self._pass(self._plan.decoder, target), self._plan.decoder
        x = run.embed(target.ids[0])
        for number, layer in enumerate(stack.layers):
            assert layer.cross is not None, "a decoder reads texts: this is a bug"
            x = run.own(layer.own, x, (memory, number))
            texts = self._texts(layer.cross, source, hidden, (memory, number))
            x = run.cross(layer.cross, x, texts, source)
            x = run.forward(layer.forward, x)
        return run.norm(stack.norm, x)

    def logits(self, states: Tensor) -> Tensor:
        """States [T, H] of all tokens that were decoded last -> logits over the vocabulary [T, V]."""
        model, seq2seq, target = self._backbone.model, self._backbone.seq2seq, self._backbone.target
        assert target is not None, "nothing was decoded: this is a bug"
        x = seq2seq.scaled(model, states)
        y = self._acts(target.layout)(self._head, x, frozen_module(model, self._head.path)(x))
        bias = seq2seq.bias(model)
        return y if bias is None else y + bias

    def shifts(self) -> tuple[Tensor, Tensor] | None:
        """What adapters that only add do to the logits of a step: which rows [r], what is added [r, V]."""
        bank, step = self._banks.acting.get(self._head), self._backbone.target
        if bank is None:
            return None
        assert isinstance(step, StepBatch), "only steps are bounded: this is a bug"
        if self._shifted is None or self._shifted[0] is not step.layout:
            slots = self._banks.slots.expand(step.texts.num_rows)[torch.from_numpy(step.rows)]
            parts = [part for use in bank.uses for part in use.place.parts.values()]
            rows = torch.stack([part.table.rows(slots) != 0 for part in parts]).any(0).nonzero()[:, 0]
            added = slots.new_zeros(len(rows), self._head.width, dtype=torch.float32)
            for use in bank.uses:
                own = {name: part.gather(slots[rows]) for name, part in use.place.parts.items()}
                added = OPS[use.place.variant.op].apply(
                    bank.frozen, own, use.place.variant.static, added, added
                )
            self._shifted = step.layout, (rows, added)
        return self._shifted[1]

    def _pass(self, stack: TextStack, batch: Batch) -> _Pass:
        return _Pass(self._plan, stack, batch, self._acts(batch.layout), self._text)

    def _acts(self, layout: Layout) -> Acts:
        return Acts(self._c, self._banks, Rows(layout, self._banks.slots))

    def _texts(
        self, cross: Attending, at: Layout, hidden: Tensor, memory: tuple[Memory, int]
    ) -> tuple[Tensor, Tensor]:
        """A layer's keys and values of the texts [T, h D], computed once per batch."""
        kept, number = memory[0].texts, memory[1]
        if number not in kept:
            acts, both = self._acts(at), cross.reads[1](hidden)
            keys, values = both.chunk(2, 1)
            for site, own in zip(QKV[1:], (keys, values), strict=True):
                acts.on(cross.taps[site], hidden, own)
            kept[number] = keys, values
        return kept[number]


class _Pass:
    """The tokens of one batch on their way through the layers of one stack."""

    def __init__(self, plan: TextPlan, stack: TextStack, batch: Batch, acts: Acts, c: TextKernels) -> None:
        self._plan, self._stack, self._batch, self._acts, self._c = plan, stack, batch, acts, c

    def embed(self, ids: Tensor) -> Tensor:
        """ids [T] -> [T, H]."""
        x, tap = self._stack.words.index_select(0, ids), self._stack.embed
        return x if tap is None else self._acts(tap, ids, x)

    def own(self, own: Attending, x: Tensor, memory: tuple[Memory, int] | None) -> Tensor:
        """Self-attention and what it is added to: x [T, H] -> [T, H]."""
        states = self.norm(own.norm, x)
        qkv = own.reads[0](states)
        q, k, v = qkv.chunk(3, 1)
        for site, part in zip(QKV, (q, k, v), strict=True):
            self._acts.on(own.taps[site], states, part)
        if memory is not None:
            new = (_heads(part, self._plan.heads) for part in (k, v))
            k, v = map(_flat, memory[0].self_attention_cache.update(*new, memory[1]))
        return self._added(own, x, self._among(own, q, k, v))

    def cross(self, cross: Attending, x: Tensor, texts: tuple[Tensor, Tensor], at: Layout) -> Tensor:
        """Cross-attention on texts [T', h D] that lie `at`, and what it is added to: x [T, H] -> [T, H]."""
        states = self.norm(cross.norm, x)
        q = self._acts(cross.taps[Site.ATTN_Q], states, cross.reads[0](states))
        if self._is_short(at.lengths):
            context = self._c.attention(
                q, *texts, self._plan.heads, self._spans, Spans(at.starts, at.lengths)
            )
        else:
            context = self._attended(cross, q, *texts, None)
        return self._added(cross, x, context)

    def _among(self, own: Attending, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Self-attention: q [T, h D] on k and v [T, h D], or on those of all steps so far."""
        batch, heads, bias = self._batch, self._plan.heads, self._stack.bias
        if isinstance(batch, TargetBatch) or not self._is_short(batch.layout.lengths):
            return self._attended(own, q, k, v, bias)
        if isinstance(batch, PackedBatch):
            return self._c.attention(q, k, v, heads, self._spans, self._spans, bias=bias[0, :, 0])
        rows = np.arange(len(q))
        queries, keys = (Spans(rows, np.full(len(q), count)) for count in (1, len(k) // len(q)))
        return self._c.attention(q, k, v, heads, queries, keys, key_step=len(q), bias=bias[0, :, 0])

    def _is_short(self, lengths: Ints) -> bool:
        """Whether rows are in reach of the kernel."""
        return self._plan.is_even and bool(lengths.max() < _LONG)

    @cached_property
    def _spans(self) -> Spans:
        return Spans(self._batch.layout.starts, self._batch.layout.lengths)

    def forward(self, forward: Forward, x: Tensor) -> Tensor:
        """x [T, H] -> [T, H]."""
        taps, states = forward.taps, self.norm(forward.norm, x)
        inner = self._inner(forward, states)
        inner = self._acts(taps[Site.FFN_INNER], inner, inner)
        return self._acts(taps[Site.FFN_OUT], inner, forward.down(inner)).add_(x)

    def norm(self, norm: RootNorm, x: Tensor) -> Tensor:
        """x [T, H] -> [T, H], a tensor of its own."""
        bank = self._acts.bank(norm.tap)
        if bank is not None and bank.replaces:
            return self._replaced(norm, bank, x)
        return self._acts(norm.tap, x, self._c.norm(x, norm.weight, norm.eps))

    def _replaced(self, norm: RootNorm, bank: TapBank, x: Tensor) -> Tensor:
        """With a gain of each row's own, and what acts behind it."""
        own, *then = bank.uses
        if own.place.parts.keys() != {"gain"}:
            return bank(x[None], x[None])[0]
        gain = own.place.parts["gain"]
        y = self._c.norm(x, gain.data, norm.eps, self._acts.rows_of(gain))
        return self._acts.by(bank, then, x, y)

    def _inner(self, forward: Forward, states: Tensor) -> Tensor:
        """The feed-forward's inner states [T, F]; the activation is part of the product where it can be."""
        taps, up = forward.taps, None
        first, tap = forward.up, taps[Site.FFN_UP]
        if forward.gate is not None:
            up = self._acts(tap, states, forward.up(states))
            first, tap = forward.gate, taps[Site.FFN_GATE]
        if self._acts.bank(tap) is None and self._plan.activation == "relu":
            inner = first(states, relu=True)
        else:
            inner = self._acts.then(tap, states, first(states), self._plan.activation)
        return inner if up is None else inner.mul_(up)

    def _attended(self, of: Attending, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """By the library's attention."""
        q, k, v = (_heads(x, self._plan.heads) for x in (q, k, v))
        out, _ = packed_attention(
            of.module, q, k, v, None, scaling=1.0, packed=self._batch, position_bias=bias
        )
        return out.reshape(out.shape[1], -1)

    def _added(self, of: Attending, x: Tensor, context: Tensor) -> Tensor:
        context = self._acts(of.taps[Site.ATTN_CONTEXT], context, context)
        return self._acts(of.taps[Site.ATTN_OUT], context, of.out(context)).add_(x)


def _heads(x: Tensor, heads: int) -> Tensor:
    """[T, h D] -> [1, h, T, D]."""
    return x.view(len(x), heads, -1).transpose(0, 1)[None]


def _flat(x: Tensor) -> Tensor:
    """[1, h, T, D] -> [T, h D]."""
    return x[0].transpose(0, 1).flatten(1)
