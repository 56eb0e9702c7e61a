"""The attention that keeps packed sequences apart, registered with the library as `packed`.

It is the only place that knows where a sequence ends. T tokens in all, h heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from .layout import Group, parted
from .packed import PackedBatch
from .steps import StepBatch, Texts
from .target import TargetBatch

Batch = PackedBatch | TargetBatch | StepBatch

ATTENTION = "packed"
STACK_MARK = "trunkline_stack"  # set on the library's attention modules: encoder, decoder or cross


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    packed: Batch,
    position_bias: Tensor | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention inside each sequence of a packed batch: q, k, v [1, h, T, D] -> [1, T, h, D].

    `position_bias` [1, h, 1, 2 R + 1] holds a bias per distance of key and query from -R to R, the outermost
    for everything beyond; `sliding_window` w lets a query see keys less than w tokens away.
    """
    call = _Call(packed, dropout, scaling, position_bias, sliding_window)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [T, h, D] each
    cross = getattr(module, STACK_MARK) == "cross"
    if isinstance(packed, PackedBatch):  # every token sees its own sequence
        out = call.encoder(packed, q, k, v)
    elif isinstance(packed, StepBatch):
        out = call.texts(packed, q, packed.texts_of(key, value)) if cross else call.step(q, k, v)
    elif cross:  # every target token sees its own source row
        out = call.grids(packed.cross, q, k, v, causal=False)
    else:
        out = call.targets(packed, q, k, v)
    return out[None], None


@dataclass(frozen=True, slots=True)
class _Call:
    """One attention call: what all of its grids share."""

    batch: Batch
    dropout: float
    scaling: float | None
    bias: Tensor | None
    window: int | None

    def encoder(self, batch: PackedBatch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        half = q.is_cuda and q.dtype in (torch.float16, torch.bfloat16)
        if half and not self.dropout and self.bias is None:
            return self._varlen(batch, q, k, v)
        return self.grids([(grid, grid) for grid in batch.groups], q, k, v, causal=False)

    def grids(
        self, pairs: Sequence[tuple[Group, Group]], q: Tensor, k: Tensor, v: Tensor, *, causal: bool
    ) -> Tensor:
        """The tokens of all queries [T, h, D], each pair of queries and keys by itself."""
        queries, keys = zip(*pairs, strict=True)
        cut = zip(pairs, parted(q, queries), parted(k, keys), parted(v, keys), strict=True)
        parts = [self._grid(*pair, *own, causal=causal) for pair, *own in cut]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def targets(self, batch: TargetBatch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Every token sees its own sequence up to itself, which is the same in all that share it."""
        pairs = [(grid, grid) for grid in batch.own]
        if batch.shared is None:
            return self.grids(pairs, q, k, v, causal=True)
        q, k, v = (x.index_select(0, batch.shared.paths) for x in (q, k, v))
        return self.grids(pairs, q, k, v, causal=True).index_select(0, batch.shared.first)

    def texts(self, batch: StepBatch, q: Tensor, texts: Texts) -> Tensor:
        """One new token per row sees all of its text: q [R, h, D], keys and values on the batch's grids."""
        queries = torch.split(q[:, :, None], [grid.rows for grid in batch.grids])
        parts = [
            scaled_dot_product_attention(own, keys, values, attn_mask=added, scale=self.scaling)
            for own, (keys, values, added) in zip(queries, texts, strict=True)
        ]
        return (parts[0] if len(parts) == 1 else torch.cat(parts))[:, :, 0]

    def step(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One new token per row sees the cached ones, which lie step by step: q [R, h, D], k [S R, h, D]."""
        rows = q.shape[0]
        keys, values = (x.view(-1, rows, *x.shape[1:]).permute(1, 2, 0, 3) for x in (k, v))  # [R, h, S, D]
        mask = self._mask(1, keys.shape[2], None, causal=False)
        out = scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=mask, scale=self.scaling)
        return out[:, :, 0]

    def _grid(self, queries: Group, keys: Group, q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
        """The tokens of one group of queries [t, h, D], from q, k and v of the two groups alone."""
        mask = self._mask(queries.length, keys.length, keys.mask, causal=causal)
        out = scaled_dot_product_attention(
            queries.grid(q).transpose(1, 2),
            keys.grid(k).transpose(1, 2),
            keys.grid(v).transpose(1, 2),
            attn_mask=mask,
            dropout_p=self.dropout,
            scale=self.scaling,
            is_causal=causal and mask is None,
        )
        return queries.tokens(out.transpose(1, 2))

    def _mask(self, queries: int, keys: int, tokens: Tensor | None, *, causal: bool) -> Tensor | None:
        """What a grid's queries see, [rows or 1, 1 or h, q, k]; None if they see all there is.

        Made once for all layers: a stack's table of biases and a grid's mask of `tokens` live as long.
        """
        name = (id(self.bias), id(tokens), self.window, queries, keys, causal)
        if name not in self.batch.masks:
            made = self._new_mask(queries, keys, tokens, causal=causal)
            self.batch.masks[name] = (self.bias, made)  # the table is kept, so that its id stays taken
        return self.batch.masks[name][1]

    def _new_mask(self, queries: int, keys: int, tokens: Tensor | None, *, causal: bool) -> Tensor | None:
        """In a causal grid padding stands behind every token that could see it."""
        visible, device = None if causal else tokens, self.batch.ids.device
        if self.window is not None and keys > self.window:
            place = torch.arange(keys, device=device)
            distance = (place[:, None] - place).abs()
            near = distance < self.window
            # A padding query sees itself, or its row of the softmax is empty.
            visible = near if visible is None else (visible & near) | (distance == 0)
        if self.bias is None:
            return visible
        bias = _by_distance(self.bias, queries, keys)
        if causal:
            visible = torch.ones(queries, keys, dtype=torch.bool, device=device).tril()
        return bias if visible is None else bias.masked_fill(~visible, torch.finfo(bias.dtype).min)

    def _varlen(self, batch: PackedBatch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Flash attention over sequence bounds: [T, h, D], 16 bit, CUDA."""
        from torch.nn.attention.varlen import varlen_attn

        bounds, longest = batch.bounds, int(batch.layout.lengths.max())
        window = (-1, -1) if self.window is None else (self.window - 1, self.window - 1)
        q, k, v = (x.contiguous() for x in (q, k, v))
        out = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=self.scaling, window_size=window)
        assert isinstance(out, Tensor), "varlen_attn returned a tuple without being asked to: this is a bug"
        return out


def _by_distance(bias: Tensor, queries: int, keys: int) -> Tensor:
    """The bias of a grid, [1, h, q, k]; the last query stands at the last key."""
    most = bias.shape[-1] // 2
    place = torch.arange(keys, device=bias.device)
    distance = place - place[keys - queries :, None]
    return bias[:, :, 0][..., distance.clamp(-most, most) + most]


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The packed attention needs no mask: bounds keep sequences apart."""


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, _no_mask)
