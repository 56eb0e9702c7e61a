"""The segment kernels in Triton: on CUDA, and on a CPU under its interpreter (TRITON_INTERPRET=1).

Only the file that needs Triton. A program of a vector kernel has one token, a program of a block has
neighbouring tokens of one row; each looks up the rows of its parts by the slot of its row in the batch.
No program writes what another one reads.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..kernels import ACTIVATIONS
from ..part import Part
from .calls import Operand, SegmentBlock, SegmentKernels, Segments, SegmentScales

_TOKENS = 32  # of a program of a block
_WIDE = 64  # columns of x or y that a program of a block takes at a time
_LEAST = 16  # what a tensor core multiplies at least
_FORMS = {"dense": 0, "low_rank": 1, "phm": 2, "lphm": 3}


class TritonSegments(SegmentKernels):
    """Kernels of this file, started on the device of their tensors."""

    def scale(self, y: Tensor, at: Segments, by: SegmentScales) -> None:
        tokens, width = y.shape
        scale, shift = _pointers(by.scale, y), _pointers(by.shift, y)
        lanes = triton.next_power_of_2(width)
        _scale[(tokens,)](y, y.stride(0), at.slots, at.row_of_token, *scale, *shift, width, LANES=lanes)

    def norm(
        self,
        y: Tensor,
        residual: Tensor,
        at: Segments,
        own: SegmentScales,
        eps: float,
        then: SegmentScales | None = None,
    ) -> Tensor:
        tokens, width = y.shape
        then = SegmentScales(None, None) if then is None else then
        operands = [p for one in (own.scale, own.shift, then.scale, then.shift) for p in _pointers(one, y)]
        out, lanes = torch.empty_like(y), triton.next_power_of_2(width)
        places = y, y.stride(0), residual, residual.stride(0), out, out.stride(0)
        _norm[(tokens,)](*places, at.slots, at.row_of_token, *operands, width, eps, LANES=lanes)
        return out

    def block(self, x: Tensor, y: Tensor, at: Segments, block: SegmentBlock) -> None:
        rows, firsts = tiles(at, _TOKENS)
        down, down_form, *down_sizes = _projection(block.down, x)
        up, up_form, *up_sizes = _projection(block.up, x)
        places = x, x.stride(0), y, y.stride(0), at.bounds, at.slots, rows, firsts
        _block[(len(rows),)](
            *places,
            *down,
            *up,
            block.wide_in,
            block.narrow,
            block.wide_out,
            ACTIVATION=ACTIVATIONS[block.activation],
            DOWN=down_form,
            DOWN_DIVISION=down_sizes[0],
            DOWN_RANK=down_sizes[1],
            UP=up_form,
            UP_DIVISION=up_sizes[0],
            UP_RANK=up_sizes[1],
            TOKENS=_TOKENS,
            WIDE=_WIDE,
            NARROW=max(_LEAST, triton.next_power_of_2(block.narrow)),
        )


def tiles(at: Segments, size: int) -> tuple[Tensor, Tensor]:
    """At most `size` neighbouring tokens of a row each: their rows and first tokens, [T // size + R].

    As many as there can be: those that are not needed are of row R. No number is read on the host.
    """
    counts = (at.bounds.diff() + size - 1) // size
    ends = counts.cumsum(0)
    number = torch.arange(len(at.row_of_token) // size + at.num_rows, device=ends.device)
    rows = torch.searchsorted(ends, number, right=True)
    known = rows.clamp(max=at.num_rows - 1)
    firsts = at.bounds.index_select(0, known) + (number - (ends - counts).index_select(0, known)) * size
    return rows, firsts


def _pointers(operand: Operand | None, absent: Tensor) -> tuple[Tensor, Tensor, int]:
    """Data, index and how to read them: 0 not there, 1 the same for all, 2 by the slots of rows."""
    if operand is None:
        return absent, absent, 0
    if isinstance(operand, Tensor):
        return operand, absent, 1
    return operand.data, operand.index, 2


def _projection(parts: Mapping[str, Part], absent: Tensor) -> tuple[list[Tensor | int], int, int, int]:
    """Factors, rule and bias with index and size, and whether there is a bias; form, division and rank."""
    first = next(parts[name] for name in ("weight_t", "left", "weight") if name in parts)
    second, rule = parts.get("right"), parts.get("rule")
    if "weight_t" in parts:
        form = "dense"
    elif rule is None:
        form = "low_rank"
    else:
        form = "phm" if second is None else "lphm"
    places: list[Tensor | int] = []
    for part in (first, second, rule, parts.get("bias")):
        places += [absent, absent, 0] if part is None else [part.data, part.index, part.data[0].numel()]
    division = 1 if rule is None else first.data.shape[1]
    return [*places, int("bias" in parts)], _FORMS[form], division, first.data.shape[-1]


@triton.jit
def _value(data, index, slot, lane, keep, width, HOW: tl.constexpr):
    """What an operand has for a row [LANES]."""
    row = tl.zeros((), tl.int64)
    if HOW == 2:
        row = tl.load(index + slot).to(tl.int64)
    return tl.load(data + row * width + lane, mask=keep, other=0.0).to(tl.float32)


@triton.jit
def _scale(
    y,
    stride,
    slots,
    row_of_token,
    scale,
    scale_index,
    SCALE: tl.constexpr,
    shift,
    shift_index,
    SHIFT: tl.constexpr,
    width,
    LANES: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + tl.load(row_of_token + token))
    lane = tl.arange(0, LANES)
    keep = lane < width
    own = tl.load(y + token * stride + lane, mask=keep, other=0.0)
    new = own.to(tl.float32)
    if SCALE > 0:
        new = new * _value(scale, scale_index, slot, lane, keep, width, SCALE)
    if SHIFT > 0:
        new = new + _value(shift, shift_index, slot, lane, keep, width, SHIFT)
    tl.store(y + token * stride + lane, new.to(own.dtype), mask=keep)


@triton.jit
def _norm(
    y,
    y_stride,
    residual,
    residual_stride,
    out,
    out_stride,
    slots,
    row_of_token,
    gain,
    gain_index,
    GAIN: tl.constexpr,
    bias,
    bias_index,
    BIAS: tl.constexpr,
    scale,
    scale_index,
    SCALE: tl.constexpr,
    shift,
    shift_index,
    SHIFT: tl.constexpr,
    width,
    eps,
    LANES: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + tl.load(row_of_token + token))
    lane = tl.arange(0, LANES)
    keep = lane < width
    own = tl.load(y + token * y_stride + lane, mask=keep, other=0.0)
    x = own.to(tl.float32)
    x += tl.load(residual + token * residual_stride + lane, mask=keep, other=0.0).to(tl.float32)
    x = tl.where(keep, x - tl.sum(x, axis=0) / width, 0.0)
    x = x * (1.0 / tl.sqrt(tl.sum(x * x, axis=0) / width + eps))
    if GAIN > 0:
        x = x * _value(gain, gain_index, slot, lane, keep, width, GAIN)
    if BIAS > 0:
        x = x + _value(bias, bias_index, slot, lane, keep, width, BIAS)
    if SCALE > 0:
        x = x * _value(scale, scale_index, slot, lane, keep, width, SCALE)
    if SHIFT > 0:
        x = x + _value(shift, shift_index, slot, lane, keep, width, SHIFT)
    tl.store(out + token * out_stride + lane, x.to(own.dtype), mask=keep)


@triton.jit
def _tile(
    first, second, rule, i, j, num_in, num_out, FORM: tl.constexpr, DIVISION: tl.constexpr, RANK: tl.constexpr
):
    """Rows i and columns j of a projection's matrix [num_in, num_out]; zeros outside of it."""
    keep = (i[:, None] < num_in) & (j[None, :] < num_out)
    if FORM == 0:
        tile = tl.load(first + i[:, None] * num_out + j[None, :], mask=keep, other=0.0)
    else:
        tile = tl.zeros((i.shape[0], j.shape[0]), tl.float32)
        thin_in, thin_out = num_in // DIVISION, num_out // DIVISION
        p, q = i // thin_in, j // thin_out
        for s in range(DIVISION):
            if FORM == 2:
                places = (s * thin_in + i % thin_in)[:, None] * thin_out + (j % thin_out)[None, :]
                part = tl.load(first + places, mask=keep, other=0.0)
            else:
                part = tl.zeros((i.shape[0], j.shape[0]), tl.float32)
                for k in range(RANK):
                    left = tl.load(first + (s * thin_in + i % thin_in) * RANK + k, mask=i < num_in, other=0.0)
                    right = tl.load(
                        second + (s * RANK + k) * thin_out + j % thin_out, mask=j < num_out, other=0.0
                    )
                    part += left[:, None] * right[None, :]
            if FORM == 1:
                tile = part
            else:
                mixing = rule + (s * DIVISION + p)[:, None] * DIVISION + q[None, :]
                tile += part * tl.load(mixing, mask=keep, other=0.0)
        tile = tl.where(keep, tile, 0.0)
    return tile


@triton.jit
def _acted(x, ACTIVATION: tl.constexpr):
    """By the numbers of `kernels.ACTIVATIONS`. tanh(u) is 2 sigmoid(2 u) - 1."""
    if ACTIVATION == 1:
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == 2:
        x = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == 3:
        x = tl.where(x < 0.0, 0.0, x)  # NaN stays
    elif ACTIVATION == 4:
        x = x * tl.sigmoid(x)
    return x


@triton.jit
def _row_of(index, slot, THERE: tl.constexpr):
    """Of a part; one that no projection of this form has counts as there."""
    row = tl.full((), 1, tl.int64)
    if THERE:
        row = tl.load(index + slot).to(tl.int64)
    return row


@triton.jit
def _block(
    x,
    x_stride,
    y,
    y_stride,
    bounds,
    slots,
    rows,
    firsts,
    first_in,
    first_in_at,
    first_in_size,
    second_in,
    second_in_at,
    second_in_size,
    rule_in,
    rule_in_at,
    rule_in_size,
    bias_in,
    bias_in_at,
    bias_in_size,
    BIAS_IN: tl.constexpr,
    first_out,
    first_out_at,
    first_out_size,
    second_out,
    second_out_at,
    second_out_size,
    rule_out,
    rule_out_at,
    rule_out_size,
    bias_out,
    bias_out_at,
    bias_out_size,
    BIAS_OUT: tl.constexpr,
    wide_in,
    narrow,
    wide_out,
    ACTIVATION: tl.constexpr,
    DOWN: tl.constexpr,
    DOWN_DIVISION: tl.constexpr,
    DOWN_RANK: tl.constexpr,
    UP: tl.constexpr,
    UP_DIVISION: tl.constexpr,
    UP_RANK: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW: tl.constexpr,
):
    row = tl.load(rows + tl.program_id(0))
    slot = tl.load(slots + row)
    a, b = _row_of(first_in_at, slot, True), _row_of(first_out_at, slot, True)
    c, d = _row_of(second_in_at, slot, DOWN % 2 == 1), _row_of(second_out_at, slot, UP % 2 == 1)
    e, f = _row_of(rule_in_at, slot, DOWN >= 2), _row_of(rule_out_at, slot, UP >= 2)
    g, h = _row_of(bias_in_at, slot, BIAS_IN), _row_of(bias_out_at, slot, BIAS_OUT)
    if (a > 0) & (b > 0) & (c > 0) & (d > 0) & (e > 0) & (f > 0) & (g > 0) & (h > 0):
        token = tl.load(firsts + tl.program_id(0)).to(tl.int64) + tl.arange(0, TOKENS)
        own = (token < tl.load(bounds + row + 1))[:, None]
        column = tl.arange(0, NARROW)
        inner = tl.zeros((TOKENS, NARROW), tl.float32)
        down, down_right = first_in + a * first_in_size, second_in + c * second_in_size
        mixing = rule_in + e * rule_in_size
        for start in range(0, wide_in, WIDE):
            lane = start + tl.arange(0, WIDE)
            places = token[:, None] * x_stride + lane[None, :]
            taken = tl.load(x + places, mask=own & (lane < wide_in)[None, :], other=0.0)
            tile = _tile(
                down, down_right, mixing, lane, column, wide_in, narrow, DOWN, DOWN_DIVISION, DOWN_RANK
            )
            inner = tl.dot(taken, tile.to(taken.dtype), inner, input_precision="ieee")
        if BIAS_IN:
            inner += tl.load(bias_in + g * bias_in_size + column, mask=column < narrow, other=0.0)[None, :]
        inner = _acted(inner, ACTIVATION)
        up, up_right = first_out + b * first_out_size, second_out + d * second_out_size
        mixing = rule_out + f * rule_out_size
        for start in range(0, wide_out, WIDE):
            lane = start + tl.arange(0, WIDE)
            tile = _tile(up, up_right, mixing, column, lane, narrow, wide_out, UP, UP_DIVISION, UP_RANK)
            places = y + token[:, None] * y_stride + lane[None, :]
            keep = own & (lane < wide_out)[None, :]
            before = tl.load(places, mask=keep, other=0.0)
            new = before.to(tl.float32)
            new = tl.dot(inner.to(before.dtype), tile.to(before.dtype), new, input_precision="ieee")
            if BIAS_OUT:
                new += tl.load(bias_out + h * bias_out_size + lane, mask=lane < wide_out, other=0.0)[None, :]
            tl.store(places, new.to(before.dtype), mask=keep)
