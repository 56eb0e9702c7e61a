"""The kernels of `text.c` as functions of tensors; the records here are its structures, field by field.

For a decoder, whose passes have few tokens: there products are bound by reading weights, and what one call of
the library costs counts. All in float32; T tokens, B rows, h heads of width D.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..layout import Ints


class _Rows(Structure):
    _fields_ = (
        *(("queries", c_void_p), ("num_queries", c_void_p), ("keys", c_void_p), ("num_keys", c_void_p)),
        *(("num_rows", c_int64), ("key_step", c_int64), ("longest", c_int64), ("num_tokens", c_int64)),
    )


class _Attention(Structure):
    _fields_ = (
        *(("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("bias", c_void_p), ("out", c_void_p)),
        *(("ldq", c_int64), ("ldk", c_int64), ("ldv", c_int64), ("ldo", c_int64)),
        *(("heads", c_int64), ("width", c_int64), ("most", c_int64), ("scaling", c_float)),
    )


class Spans(NamedTuple):
    """Of B rows [B]: where their tokens begin, and how many they are."""

    starts: Ints
    lengths: Ints


class TextKernels:
    """The functions of one library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        n, p = c_int64, c_void_p
        library.text_panel.restype = n
        self.panel: int = library.text_panel()
        self._product = _declared(library.text_product, p, n, n, n, p, n, p, n)
        self._norm = _declared(library.text_norm, p, p, n, n, p, p, c_float)
        self._attention = _declared(library.text_attention, POINTER(_Attention), POINTER(_Rows))

    def packed(self, weight: Tensor) -> Tensor:
        """weight [O, I] -> panels [O / P, I, P], the last one filled up with zeros."""
        filled = pad(weight.detach(), (0, 0, 0, -len(weight) % self.panel))
        return filled.view(-1, self.panel, weight.shape[1]).transpose(1, 2).contiguous()

    def product(self, x: Tensor, packed: Tensor, *, relu: bool = False) -> Tensor:
        """x [T, I] times the weight that was packed -> [T, O], with the columns that were filled up."""
        _check(x)
        panels, count, panel = packed.shape
        width = panels * panel
        y = x.new_empty(len(x), width)
        self._product(
            x.data_ptr(), x.stride(0), len(x), count, packed.data_ptr(), width, y.data_ptr(), relu
        )  # fmt: skip
        return y

    def norm(self, x: Tensor, gain: Tensor, eps: float, of: Tensor | None = None) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * gain: x [T, H] -> [T, H].

        Of several gains [S, H] `of` [T] names one for each token.
        """
        assert x.is_contiguous(), "a norm takes whole rows: this is a bug"
        _check(x)
        y = torch.empty_like(x)
        self._norm(
            x.data_ptr(),
            y.data_ptr(),
            len(x),
            x.shape[1],
            gain.data_ptr(),
            None if of is None else of.data_ptr(),
            eps,
        )
        return y

    def attends(self, width: int) -> bool:
        """Whether heads may be so wide."""
        return width % (self.panel // 2) == 0

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        queries: Spans,
        keys: Spans,
        *,
        key_step: int = 1,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Each row's queries on its keys, unscaled: q, k, v [T, h D] -> [T of q, h D].

        The keys of a row are `key_step` tokens apart. `bias` [h, 2 R + 1] is added by distance, from -R to R
        and as far beyond; the last query stands at the last key.
        """
        for x in (q, k, v):
            _check(x)
        out = q.new_empty(q.shape)
        lengths = np.ascontiguousarray(keys.lengths)
        arrays = [np.ascontiguousarray(a) for a in (*queries, keys.starts)]
        at = _Rows(
            *(a.ctypes.data for a in arrays), lengths.ctypes.data, len(lengths), key_step,
            int(lengths.max(initial=0)), len(q),
        )  # fmt: skip
        what = _Attention(
            *(x.data_ptr() for x in (q, k, v)), None if bias is None else bias.data_ptr(), out.data_ptr(),
            *(x.stride(0) for x in (q, k, v, out)), heads, q.shape[1] // heads,
            0 if bias is None else bias.shape[1] // 2, 1.0,
        )  # fmt: skip
        if self._attention(what, at):
            raise MemoryError("no memory for the weights of attention")
        return out


class TextProduct:
    """x [T, I] -> activation(x W^T) [T, O] of linear layers without biases that read the same x."""

    def __init__(self, c: TextKernels, layers: Sequence[nn.Linear]) -> None:
        self._c, self._packed = c, c.packed(torch.cat([layer.weight for layer in layers]))
        self._width = sum(layer.out_features for layer in layers)

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:
        y = self._c.product(x, self._packed, relu=relu)
        return y[:, : self._width].contiguous()  # itself, unless columns were filled up


def _check(x: Tensor) -> None:
    assert x.dtype == torch.float32, "these kernels take float32: this is a bug"
    assert x.stride(-1) == 1, "these kernels take numbers side by side: this is a bug"


def _declared(function: Any, *kinds: Any) -> Any:
    function.argtypes = kinds
    return function
