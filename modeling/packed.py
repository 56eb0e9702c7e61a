"""A batch without padding, and the attention that keeps its sequences apart.

Hugging Face models run unmodified on one packed row `[1, T]`: positions are given explicitly, and only
the attention function registered here knows where a sequence ends. Rows are packed in order of length,
so that neighbours of nearly equal length share one attention call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from .text import Encoded

ATTENTION = "packed"
# Rows share an attention call while the longest is at most this many times the shortest. On the CPU many
# calls without padding are fastest (benchmarks/attention_groups.py); a GPU wants one call with padding.
GROUP_STRETCH = {"cpu": 1.0, "cuda": math.inf}


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows that share an attention call: tokens [start, stop) as `rows` rows of `length`.

    `flat` [t] places each token in the padded [rows * length] grid and `mask` [rows, 1, 1, length] says
    where tokens are; both are None when all rows have the same length and nothing needs to be padded.
    """

    start: int
    stop: int
    rows: int
    length: int
    flat: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """B sequences as one row of T tokens, in order of length.

    `order[i]` is the caller's number of packed row i, `inverse` [B] undoes it on tensors; `lengths` [B] in
    tokens; `starts` [B] the first token of each row; `row_of_token` [T].
    """

    ids: Tensor  # [1, T]
    type_ids: Tensor  # [1, T]
    positions: Tensor  # [1, T]
    order: list[int]
    inverse: Tensor  # [B]
    lengths: Tensor  # [B]
    starts: Tensor  # [B]
    row_of_token: Tensor  # [T]
    groups: list[Group]

    @property
    def num_tokens(self) -> int:
        """T."""
        return int(self.ids.shape[1])


def pack(encoded: Sequence[Encoded], *, first_position: int, device: torch.device) -> PackedBatch:
    """Lay out sequences one after another. Raises ValueError for an empty batch or an empty sequence."""
    lengths_of = [len(e) for e in encoded]
    if not lengths_of or min(lengths_of) == 0:
        raise ValueError("a batch needs at least one sequence, and every sequence at least one token")
    order = sorted(range(len(encoded)), key=lengths_of.__getitem__)
    lengths = np.array([lengths_of[i] for i in order])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    total = int(starts[-1])
    rows = np.repeat(np.arange(len(order)), lengths)
    places = np.arange(total) - starts[rows]
    ids = np.fromiter(chain.from_iterable(encoded[i].ids for i in order), np.int64, total)
    types = np.fromiter(chain.from_iterable(encoded[i].type_ids for i in order), np.int64, total)

    def put(array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return PackedBatch(
        ids=put(ids)[None],
        type_ids=put(types)[None],
        positions=put(places + first_position)[None],
        order=order,
        inverse=put(np.argsort(np.array(order))),
        lengths=put(lengths),
        starts=put(starts[:-1].copy()),
        row_of_token=put(rows),
        groups=[
            _group(lengths, starts, places, i, j, device)
            for i, j in pairwise(_cuts(lengths.tolist(), GROUP_STRETCH.get(device.type, math.inf)))
        ],
    )


def _cuts(lengths: Sequence[int], stretch: float) -> list[int]:
    """Row numbers at which a new attention group begins, and the end; lengths ascend."""
    cuts = [0]
    for row, length in enumerate(lengths):
        if length > stretch * lengths[cuts[-1]]:
            cuts.append(row)
    return [*cuts, len(lengths)]


def _group(
    lengths: np.ndarray[Any, Any],
    starts: np.ndarray[Any, Any],
    places: np.ndarray[Any, Any],
    first: int,
    last: int,
    device: torch.device,
) -> Group:
    start, stop, rows, length = int(starts[first]), int(starts[last]), last - first, int(lengths[last - 1])
    if rows * length == stop - start:
        return Group(start, stop, rows, length, None, None)
    own = lengths[first:last]
    flat = np.repeat(np.arange(rows) * length, own) + places[start:stop]
    mask = np.arange(length)[None] < own[:, None]
    return Group(
        start,
        stop,
        rows,
        length,
        torch.from_numpy(flat).to(device),
        torch.from_numpy(mask).to(device)[:, None, None],
    )


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    packed: PackedBatch,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention inside each sequence of a packed batch: q, k, v [1, heads, T, D] -> [1, T, heads, D]."""
    qkv = [x[0].transpose(0, 1) for x in (query, key, value)]  # [T, heads, D] each
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and dropout == 0.0:
        return _varlen(qkv, packed, scaling)[None], None
    parts = [_group_attention(qkv, group, dropout, scaling) for group in packed.groups]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


def _group_attention(qkv: list[Tensor], group: Group, dropout: float, scaling: float | None) -> Tensor:
    """The tokens of one group -> [t, heads, D]."""
    shape = (group.rows, group.length, *qkv[0].shape[1:])
    q, k, v = (_to_grid(x[group.start : group.stop], group).view(shape).transpose(1, 2) for x in qkv)
    out = scaled_dot_product_attention(q, k, v, attn_mask=group.mask, dropout_p=dropout, scale=scaling)
    out = out.transpose(1, 2).reshape(-1, *qkv[0].shape[1:])  # [rows * length, heads, D]
    return out if group.flat is None else out.index_select(0, group.flat)


def _to_grid(x: Tensor, group: Group) -> Tensor:
    if group.flat is None:
        return x
    return x.new_zeros(group.rows * group.length, *x.shape[1:]).index_copy(0, group.flat, x)


def _varlen(qkv: list[Tensor], packed: PackedBatch, scaling: float | None) -> Tensor:
    """Flash attention over sequence bounds: [T, heads, D], 16 bit, CUDA."""
    from torch.nn.attention.varlen import varlen_attn

    bounds = torch.nn.functional.pad(packed.lengths.cumsum(0), (1, 0)).to(torch.int32)
    longest = packed.groups[-1].length
    q, k, v = (x.contiguous() for x in qkv)
    out = varlen_attn(q, k, v, bounds, bounds, longest, longest, scale=scaling)
    assert isinstance(out, Tensor), "varlen_attn returned a tuple without being asked to: this is a bug"
    return out


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The packed attention needs no mask: bounds keep sequences apart."""


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, _no_mask)
