"""block: an adapter block, y + up(act(down(y))), with whatever projections; training and serving form.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751. The down and up
projections may be dense, hypercomplex or of low rank (see `layers.phm.project`). Their factors stay factors:
memory holds the tensors of the file, a shared rule once per adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.phm import project
from .base import OPS, PackedTap, Parts, RowOp, Shared, TapModule

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
}
_EPS = 1e-5


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


def _below(parts: Parts, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}


def _norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """x [b, L, D], gain and bias [b, D] or [1, D]."""
    gain, bias = gain.to(x.dtype), bias.to(x.dtype)
    if gain.shape[0] == 1:
        return F.layer_norm(x, gain.shape[1:], gain[0], bias[0], _EPS)
    return torch.addcmul(bias[:, None], F.layer_norm(x, gain.shape[1:], eps=_EPS), gain[:, None])


def _apply(frozen: nn.Module, parts: Parts, static: BlockOptions, x: Tensor, y: Tensor) -> Tensor:
    return _block(parts, static, y)


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

    op = OPS.add(RowOp("block", order=3, per_row=True, apply=_apply))

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
        """Its own tensors, shared ones by name."""
        parts: dict[str, Tensor | Shared] = {name: p.detach() for name, p in self.named_parameters()}
        parts |= {part: Shared(name) for part, name, _ in self._shared}
        return PackedTap(self.op.name, parts, self.options)
