"""The most probable token of a state, exactly, without computing all logits in float32.

Of x w + b over V tokens a product in bfloat16, which costs a fifth, gives an upper bound each; the few tokens
whose bound reaches the best one's own logit are computed in float32. With x' and w' the rounded ones,

    x w = x' w' + (x - x') w + x' (w - w') <= x' w' + |x - x'| |w| + |x'| |w - w'|      (Cauchy-Schwarz)

so that the bound is a product itself, of vectors that are longer by three: [x', |x - x'|, |x'|, 1] and
[w', |w|, |w - w'|, b]. It knows weights and states, no models. R states, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

_BLOCK = 128  # tokens whose largest bound is looked at first
_MOST = 64  # tokens per state that are computed exactly; beyond that all of them are cheaper
_UP = 1.02  # more than what rounding to bfloat16 (8 bits) takes off a number
_ROUNDED = 2.0**-7  # relative: twice what rounding a bound to bfloat16 changes it
_SUMS = 2.0**-22  # per term, relative: more than what sums in float32 (24 bits) are off, here and there
_NEVER = -1e30
_ALIGNED = 32  # columns; the three of the bounds are filled up with zeros


Shift = tuple[Tensor, Tensor]
"""What is added to the logits of some states: which [r], what [r, V]."""


def pays(weight: Tensor) -> bool:
    """Whether this processor multiplies bfloat16 faster than the numbers that the weight is in."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return False
    able = torch.cpu.get_capabilities()
    return _is_packable() and bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def _is_packable() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]  # torch's own


class Greatest:
    """Of an output layer with a weight [V, H] and a bias [V]; it holds a rounded copy of the weight, too."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.detach(), bias
        count, width = weight.shape
        rows = -(-count // _BLOCK) * _BLOCK
        made = torch.zeros(rows, width + _ALIGNED, dtype=torch.bfloat16, device=weight.device)
        made[count:, width + 2] = _NEVER
        made[:count, :width] = self.weight
        lost = (self.weight - made[:count, :width].float()).norm(dim=1)
        made[:count, width] = _UP * self.weight.norm(dim=1)
        made[:count, width + 1] = _UP * lost
        if bias is not None:
            made[:count, width + 2] = bias + _ROUNDED * bias.abs()
        self._packed = pays(weight)
        self._bounding = torch.ops.mkldnn._reorder_linear_weight(made, None) if self._packed else made

    def __call__(self, states: Tensor, shift: Shift | None = None) -> Tensor | None:
        """states [R, H], what is added to the logits of some -> the tokens [R], the first of equal ones.

        None if too many could be the greatest, or a state is not finite: then all have to be computed.
        """
        bounds = self._bounds(states, shift)  # [R, blocks, _BLOCK]
        largest = bounds.amax(-1)
        every = torch.arange(len(states), device=states.device)
        block = largest.argmax(-1)
        guess = block * _BLOCK + bounds[every, block].argmax(-1)
        guess.clamp_(max=len(self.weight) - 1)  # bounds that are not numbers
        least = self._logits(states, every, guess, shift)
        least = least - _ROUNDED * least.abs()
        rows, blocks = (largest >= least[:, None]).nonzero().unbind(1)
        if len(rows) > _MOST * len(states):
            return None
        hit, place = (bounds[rows, blocks] >= least[rows, None]).nonzero().unbind(1)
        if len(hit) > _MOST * len(states):
            return None
        rows, tokens = rows[hit], blocks[hit] * _BLOCK + place
        return self._first(self._logits(states, rows, tokens, shift), rows, tokens, len(states))

    def _bounds(self, states: Tensor, shift: Shift | None) -> Tensor:
        """Of all logits; without a shift they are rounded to bfloat16, perhaps down."""
        width = states.shape[1]
        x = torch.zeros(len(states), width + _ALIGNED, dtype=torch.bfloat16, device=states.device)
        x[:, :width] = states
        rounded = x[:, :width].float()
        lost = (states - rounded).norm(dim=1) + _SUMS * width * states.norm(dim=1)
        x[:, width], x[:, width + 1], x[:, width + 2] = _UP * lost, _UP * rounded.norm(dim=1), 1
        found = self._product(x)
        if shift is not None:
            rows, values = shift
            own = found.index_select(0, rows).float()
            own.add_(own.abs(), alpha=_ROUNDED)[:, : values.shape[1]] += values
            own.add_(own.abs(), alpha=_ROUNDED / 2)
            found.index_copy_(0, rows, own.to(found.dtype))
        return found.view(len(states), -1, _BLOCK)

    def _product(self, x: Tensor) -> Tensor:
        if not self._packed:
            return linear(x, self._bounding)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._bounding, None, "none", [], "")
        return found

    def _logits(self, states: Tensor, rows: Tensor, tokens: Tensor, shift: Shift | None) -> Tensor:
        """Exactly, of some (row, token) [N]."""
        found = (states.index_select(0, rows) * self.weight.index_select(0, tokens)).sum(-1)
        if self.bias is not None:
            found = found + self.bias.index_select(0, tokens)
        if shift is None:
            return found
        place = rows.new_full((len(states),), -1)
        place[shift[0]] = torch.arange(len(shift[0]), device=rows.device)
        own = place.index_select(0, rows)
        return found + torch.where(own < 0, 0.0, shift[1][own.clamp(min=0), tokens])

    def _first(self, logits: Tensor, rows: Tensor, tokens: Tensor, count: int) -> Tensor | None:
        best = logits.new_full((count,), float("-inf")).scatter_reduce(0, rows, logits, "amax")
        equal = logits == best[rows]
        none = tokens.new_full((count,), len(self.weight))
        found = none.scatter_reduce(0, rows[equal], tokens[equal], "amin")
        return None if bool((found == none).any()) else found
