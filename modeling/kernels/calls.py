"""The kernels of `rows.c` as functions of tensors; the records here are its structures, field by field.

A record holds addresses. Whatever they point to lives in the parts of a bank and in the batch, for as long as
a call takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..layout import Layout
from ..part import Part

# By their names in the library's configs and in options; what is not here, no kernel computes.
ACTIVATIONS: Mapping[str, int] = {"": 0, "gelu": 1, "gelu_new": 2, "relu": 3, "swish": 4}
FORMS = ("dense", "low_rank", "phm", "lphm")


class RowCall(Protocol):
    """What a row op is on a whole packed batch: one call of a kernel, which changes y in place."""

    def act(self, kernels: Kernels, at: Rows, rows: Sequence[int] | None, x: Tensor, y: Tensor) -> None:
        """On these rows (None: all): x [T, I], y [T, O], which may be the same."""


class Table(Structure):
    """One part of a bank: data [S, width] and which row of it a slot has."""

    _fields_ = (
        *(("data", c_void_p), ("index", c_void_p)),
        *(("num_slots", c_int64), ("num_rows", c_int64), ("width", c_int64)),
    )

    @classmethod
    def of(cls, part: Part | Tensor | None) -> Table:
        """A part; a tensor that all rows have; or nothing."""
        if part is None:
            return cls()
        if isinstance(part, Tensor):
            return cls(part.data_ptr(), None, 0, 1, part.numel())
        data, index = part.data, part.index
        return cls(data.data_ptr(), index.data_ptr(), index.shape[0], data.shape[0], data[0].numel())


class Scales(Structure):
    """What a vector op does: y * scale + shift, each where it is there, but nothing to rows without parts.

    After a norm, the gain and bias of every row.
    """

    _fields_ = (("scale", Table), ("shift", Table))

    @classmethod
    def of(cls, scale: Part | Tensor | None, shift: Part | Tensor | None) -> Scales:
        return cls(Table.of(scale), Table.of(shift))

    def act(self, kernels: Kernels, at: Rows, rows: Sequence[int] | None, x: Tensor, y: Tensor) -> None:
        """On all rows: those without parts have the identity."""
        kernels.scale(y, at, self)


class Normal(Structure):
    """What a norm does before gain and bias: about the mean, or by the root mean square alone."""

    _fields_ = (("eps", c_float), ("centred", c_int64))


class Projection(Structure):
    """A projection by its factors, as in `layers.phm.project`; `second` beside `first` where it has two."""

    _fields_ = (
        *(("form", c_int64), ("division", c_int64), ("rank", c_int64)),
        *(("first", Table), ("second", Table), ("rule", Table), ("bias", Table)),
    )

    @classmethod
    def of(
        cls,
        form: str,
        first: Part,
        second: Part | None = None,
        rule: Part | None = None,
        bias: Part | None = None,
        *,
        division: int = 1,
        rank: int = 1,
    ) -> Projection:
        parts = (Table.of(part) for part in (first, second, rule, bias))
        return cls(FORMS.index(form), division, rank, *parts)


class Block(Structure):
    """y += up(activation(down(x))) for some rows of a batch, [D_in] -> [R] -> [D_out]; `of_y`: down(y)."""

    _fields_ = (
        *(("down", Projection), ("up", Projection)),
        *(("wide_in", c_int64), ("bottleneck", c_int64), ("wide_out", c_int64), ("activation", c_int64)),
        *(("of_y", c_int64), ("rows", c_void_p), ("num_rows", c_int64)),
    )

    def act(self, kernels: Kernels, at: Rows, rows: Sequence[int] | None, x: Tensor, y: Tensor) -> None:
        """On the rows that have parts."""
        self.rows, self.num_rows = at.numbers(rows)
        kernels.block(x, y, at, self)


class Attention(Structure):
    """What all rows and heads of an attention share; `bias` is added to scores, by head and distance."""

    _fields_ = (
        *(("heads", c_int64), ("width", c_int64), ("bias", c_void_p), ("reach", c_int64)),
        ("scaling", c_float),
    )

    @classmethod
    def of(
        cls, heads: int, width: int, scaling: float | None = None, bias: Tensor | None = None
    ) -> Attention:
        """Heads of a width; `bias` [heads, 2 R + 16]: of key minus query from 1 - R to R - 1, then zeros."""
        scaling = width**-0.5 if scaling is None else scaling
        if bias is None:
            return cls(heads, width, None, 0, scaling)
        return cls(heads, width, bias.data_ptr(), (bias.shape[1] - 16) // 2, scaling)


class _Batch(Structure):
    _fields_ = (
        *(("start", c_void_p), ("length", c_void_p), ("slot", c_void_p), ("row", c_void_p)),
        *(("num_rows", c_int64), ("num_tokens", c_int64), ("longest", c_int64)),
    )


class Rows:
    """Where the rows of a packed batch lie, and under which slots: `slots` [B] or, of a whole batch, [1]."""

    def __init__(self, layout: Layout, slots: Tensor) -> None:
        self.layout = layout
        self._found: dict[tuple[int, ...] | None, npt.NDArray[np.int64]] = {}
        self._starts, self._lengths = (np.ascontiguousarray(a) for a in (layout.starts, layout.lengths))
        self._slots = slots.expand(layout.num_rows).contiguous()

    @cached_property
    def record(self) -> _Batch:
        return self.below(self.layout.num_rows)

    def below(self, count: int) -> _Batch:
        """The first `count` rows."""
        starts, lengths = self._starts, self._lengths
        tokens, longest = int(lengths[:count].sum()), int(lengths[:count].max(initial=0))
        row = self.layout.row_of_token
        addresses = (starts.ctypes.data, lengths.ctypes.data, self._slots.data_ptr(), row.data_ptr())
        return _Batch(*addresses, count, tokens, longest)

    def numbers(self, rows: Sequence[int] | None) -> tuple[int, int]:
        """Some rows (None: all) as an array of C: its address and its length."""
        key = None if rows is None else tuple(rows)
        if key not in self._found:
            chosen = range(self.layout.num_rows) if key is None else key
            self._found[key] = np.array(chosen, dtype=np.int64)
        array = self._found[key]
        return array.ctypes.data, len(array)


class _Sources(Structure):
    """Up to three tensors of rows that are added, each with the rows of tokens (none: token by token)."""

    _fields_ = (
        *(("first", c_void_p), ("first_index", c_void_p), ("second", c_void_p), ("second_index", c_void_p)),
        *(("third", c_void_p), ("third_index", c_void_p)),
    )


_NOTHING = Scales()


class Kernels:
    """The functions of one library. All change what they are given in place; T tokens in all."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.rows_source.restype = ctypes.c_char_p
        self.source: str = library.rows_source().decode()
        at, by, n = POINTER(_Batch), POINTER(Scales), c_int64
        self._scale = _declared(library.rows_scale, c_void_p, n, n, n, at, by, n)
        sources, p = POINTER(_Sources), c_void_p
        self._norm = _declared(library.rows_norm, sources, n, p, p, n, n, POINTER(Normal), at, by, by)
        whole = POINTER(Attention)
        self._attention = _declared(library.rows_attention, c_void_p, c_void_p, n, whole, at, by)
        self._rotate = _declared(library.rows_rotate, p, n, n, n, n, p, p, p, at)
        self._block = _declared(library.rows_block, c_void_p, n, c_void_p, n, n, at, POINTER(Block))

    def scale(self, y: Tensor, at: Rows, by: Scales | None, activation: str = "") -> None:
        """activation(y * scale + shift), y [T, D]."""
        by, width = _NOTHING if by is None else by, y.shape[1]
        self._scale(y.data_ptr(), _half(y), y.stride(0), width, at.record, by, ACTIVATIONS[activation])

    def norm(
        self,
        x: Tensor,
        residual: Tensor,
        at: Rows,
        own: Scales,
        how: Normal,
        then: Scales | None = None,
        *,
        keep: bool = False,
    ) -> Tensor:
        """norm(x + residual) with gain and bias, then scaled and shifted: x [T, D] becomes the result.

        With `keep` the residual becomes the sum.
        """
        place, other = _rows_of(x, x), _rows_of(residual, x)
        kept, then = other if keep else None, _NOTHING if then is None else then
        sources, width = _Sources(place, None, other), x.shape[1]
        self._norm(sources, 2, place, kept, _half(x), width, how, at.record, own, then)
        return x

    def norm_of_rows(
        self, tables: Sequence[tuple[Tensor, Tensor | None]], at: Rows, own: Scales, how: Normal
    ) -> Tensor:
        """norm of sums of rows of tables [S, D], at most three, each with the tokens' rows [T] -> [T, D]."""
        like = tables[0][0]
        places = [
            address
            for table, index in tables
            for address in (_rows_of(table, like), None if index is None else index.data_ptr())
        ]
        y, width = like.new_empty(at.record.num_tokens, like.shape[1]), like.shape[1]
        sources, place = _Sources(*places), y.data_ptr()
        self._norm(sources, len(tables), place, None, _half(y), width, how, at.record, own, _NOTHING)
        return y

    def attention(
        self, qkv: Tensor, out: Tensor, what: Attention, at: Rows, count: int, by: Scales | None = None
    ) -> None:
        """Attention inside each of the first `count` rows: qkv [T, 3 H], q | k | v -> out [T, H], scaled."""
        record = at.record if count == at.layout.num_rows else at.below(count)
        by = _NOTHING if by is None else by
        addresses = _rows_of(qkv, out), _rows_of(out, out)
        _done(self._attention(*addresses, _half(out), what, record, by))

    def rotate(self, x: Tensor, width: int, tables: tuple[Tensor, Tensor], places: Tensor, at: Rows) -> None:
        """Turn the heads of x [T, heads D] by the cosines and sines [S, D] of the tokens' places [T]."""
        cosines, sines = tables
        heads = x.shape[1] // width
        what = x.data_ptr(), _half(x), x.stride(0), heads, width
        self._rotate(*what, cosines.data_ptr(), sines.data_ptr(), places.data_ptr(), at.record)

    def block(self, x: Tensor, y: Tensor, at: Rows, block: Block) -> None:
        """y += up(activation(down(x))) in some rows; x [T, D_in] and y [T, D_out] may be the same."""
        x, half = y if block.of_y else x, _half(y)
        assert _half(x) == half, "a block reads and writes one format: this is a bug"
        _done(self._block(x.data_ptr(), x.stride(0), y.data_ptr(), y.stride(0), half, at.record, block))


def _declared(function: Any, *kinds: Any) -> Any:
    function.argtypes = kinds
    return function


def _half(x: Tensor) -> int:
    """Whether rows are of bfloat16; else they are of float32."""
    half = x.dtype == torch.bfloat16
    fits = (half or x.dtype == torch.float32) and x.stride(-1) == 1
    assert fits, "kernels take rows of float32 or bfloat16: this is a bug"
    return half


def _rows_of(x: Tensor, like: Tensor) -> int:
    """The address of whole rows that lie one behind another."""
    fits = x.is_contiguous() and x.dtype == like.dtype
    assert fits, "kernels take whole rows of one format here: this is a bug"
    return x.data_ptr()


def _done(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the rows of a batch")
