"""block: an adapter block, y + up(act(down(y))), with whatever projections; training and serving form.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751. The down and up
projections may be dense, hypercomplex or of low rank (see `layers.phm.project`). Their factors stay factors:
memory holds the tensors of the file, a shared rule once per adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import kernels
from ..kernels import Projection
from ..layers.phm import project
from ..segments import SegmentBlock
from .base import OPS, BankParts, PackedTap, Parts, RowOp, Shared, TapModule

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
}
_EPS = 1e-5
T = TypeVar("T")


@dataclass(frozen=True)
class BlockOptions:
    """What a block computes: options of all methods with blocks (`methods/blocks.py`), and the op's static.

    A LayerNorm may stand before the down projection and after the up projection, inside the block's residual.
    """

    activation: Literal["gelu_new", "gelu", "relu", "swish"] = "gelu_new"
    pre_norm: bool = False
    post_norm: bool = False

    def of_block(self) -> BlockOptions:
        """These alone, without what a method adds to them."""
        return BlockOptions(**{field.name: getattr(self, field.name) for field in fields(BlockOptions)})


def _block(parts: Parts, options: BlockOptions, y: Tensor) -> Tensor:
    """y + post(up(act(down(pre(y))))): y [b, L, D] -> [b, L, D].

    `parts`, each with a leading b (or 1): `down.*` and `up.*` as in `project`, and for norms `pre.gain`,
    `pre.bias`, `post.gain`, `post.bias`, each [b, D].
    """
    x = _norm(y, parts["pre.gain"], parts["pre.bias"]) if options.pre_norm else y
    inner = ACTIVATIONS[options.activation](project(_below(parts, "down."), x))
    if not options.post_norm:
        return project(_below(parts, "up."), inner, y)
    return y + _norm(project(_below(parts, "up."), inner), parts["post.gain"], parts["post.bias"])


def _below(parts: Mapping[str, T], prefix: str) -> dict[str, T]:
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}


def _norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """x [b, L, D], gain and bias [b, D] or [1, D]."""
    gain, bias = gain.to(x.dtype), bias.to(x.dtype)
    if gain.shape[0] == 1:
        return F.layer_norm(x, gain.shape[1:], gain[0], bias[0], _EPS)
    return torch.addcmul(bias[:, None], F.layer_norm(x, gain.shape[1:], eps=_EPS), gain[:, None])


def _apply(frozen: nn.Module, parts: Parts, static: BlockOptions, x: Tensor, y: Tensor) -> Tensor:
    return _block(parts, static, y)


def _rows(parts: BankParts, static: BlockOptions) -> kernels.Block | None:
    """Of blocks without norms, whose rules are whole."""
    down, up = (_projection(_below(parts, prefix)) for prefix in ("down.", "up."))
    if down is None or up is None or static.pre_norm or static.post_norm:
        return None
    wide, narrow = parts["up.bias"].data.shape[1], parts["down.bias"].data.shape[1]
    return kernels.Block(down, up, wide, narrow, wide, kernels.ACTIVATIONS[static.activation], 1)


def _projection(parts: BankParts) -> Projection | None:
    """The parts of `project` as the kernel reads them; None where it does not."""
    bias, rule = parts.get("bias"), parts.get("rule")
    if "weight_t" in parts:
        return Projection.of("dense", parts["weight_t"], bias=bias)
    first, second = parts.get("left", parts.get("weight")), parts.get("right")
    if first is None or "rule_left" in parts or (rule is None and second is None):
        return None
    form = "low_rank" if rule is None else ("phm" if second is None else "lphm")
    division, rank = 1 if rule is None else first.data.shape[1], first.data.shape[-1]
    return Projection.of(form, first, second, rule, bias, division=division, rank=rank)


def _segments(parts: BankParts, static: BlockOptions) -> SegmentBlock | None:
    """Of the same blocks as `_rows`."""
    if _rows(parts, static) is None:
        return None
    down, up = (_below(parts, prefix) for prefix in ("down.", "up."))
    wide, narrow = up["bias"].data.shape[1], down["bias"].data.shape[1]
    return SegmentBlock.of(down, up, wide, narrow, wide, static.activation, of_y=True)


class _Gain(nn.Module):
    """The parameters of a LayerNorm: `gain` [D] at 1, `bias` [D] at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))


class Block(TapModule):
    """Training form: `down` and `up` projections of a width D, norms on demand.

    `shared` are parameters that other blocks use too, by the part they stand for and the name they are shared
    under: `{"down.rule": ("phm_rule", rule)}`. They are no parameters of this module.
    """

    op = OPS.add(RowOp("block", order=3, per_row=True, apply=_apply, rows=_rows, segments=_segments))

    def __init__(
        self,
        down: nn.Module,
        up: nn.Module,
        width: int,
        options: BlockOptions,
        shared: Mapping[str, tuple[str, nn.Parameter]],
    ) -> None:
        super().__init__()
        self.down, self.up, self.options = down, up, options
        if options.pre_norm:
            self.pre = _Gain(width)
        if options.post_norm:
            self.post = _Gain(width)
        self._shared = tuple((part, name, value) for part, (name, value) in shared.items())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        parts = dict(self.named_parameters()) | {part: value for part, _, value in self._shared}
        return _block({name: part[None] for name, part in parts.items()}, self.options, y)

    def pack(self) -> PackedTap:
        """Its own tensors, shared ones by name; dense weights by rows of the input, as kernels read."""
        parts: dict[str, Tensor | Shared] = {name: p.detach() for name, p in self.named_parameters()}
        for name, projection in (("down", self.down), ("up", self.up)):
            if isinstance(projection, nn.Linear):
                del parts[f"{name}.weight"]
                parts[f"{name}.weight_t"] = projection.weight.detach().mT
        parts |= {part: Shared(name) for part, name, _ in self._shared}
        return PackedTap(self.op.name, parts, self.options)
