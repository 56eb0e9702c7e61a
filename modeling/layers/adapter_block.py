"""The adapter block: y + up(act(down(y))), with whatever projections, and its optional norms.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751. The down and up
projections may be dense, hypercomplex or of low rank (see `phm.project`); a LayerNorm may stand before the
down projection and after the up projection, inside the block's residual. Both are off in the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .phm import project

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "swish": F.silu,
}
_EPS = 1e-5


def adapter_block(parts: Mapping[str, Tensor], activation: str, y: Tensor) -> Tensor:
    """y + post(up(act(down(pre(y))))): y [b, L, D] -> [b, L, D].

    `parts`, each with a leading b (or 1): `down.*` and `up.*` as in `phm.project`, and where the block has
    norms `pre.gain`, `pre.bias`, `post.gain`, `post.bias`, each [b, D].
    """
    x = _norm(y, parts["pre.gain"], parts["pre.bias"]) if "pre.gain" in parts else y
    inner = ACTIVATIONS[activation](project(_below(parts, "down."), x))
    if "post.gain" not in parts:
        return project(_below(parts, "up."), inner, y)
    return y + _norm(project(_below(parts, "up."), inner), parts["post.gain"], parts["post.bias"])


def _below(parts: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}


def _norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """x [b, L, D], gain and bias [b, D] or [1, D]."""
    gain, bias = gain.to(x.dtype), bias.to(x.dtype)
    if gain.shape[0] == 1:
        return F.layer_norm(x, gain.shape[1:], gain[0], bias[0], _EPS)
    return torch.addcmul(bias[:, None], F.layer_norm(x, gain.shape[1:], eps=_EPS), gain[:, None])


class _Gain(nn.Module):
    """The parameters of a LayerNorm: `gain` [D] at 1, `bias` [D] at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))


class AdapterBlock(nn.Module):
    """Training form of a block: `down` and `up` projections, norms on demand.

    `shared` are parameters that other blocks use too, by the part they stand for and the name they are shared
    under: `{"down.rule": ("phm_rule", rule)}`. They are no parameters of this module.
    """

    replaces: ClassVar[bool] = False

    def __init__(
        self,
        down: nn.Module,
        up: nn.Module,
        *,
        width: int,
        activation: str = "gelu_new",
        pre_norm: bool = False,
        post_norm: bool = False,
        shared: Mapping[str, tuple[str, nn.Parameter]] | None = None,
    ) -> None:
        super().__init__()
        self.down, self.up, self.activation = down, up, activation
        if pre_norm:
            self.pre = _Gain(width)
        if post_norm:
            self.post = _Gain(width)
        self._shared = tuple((part, name, value) for part, (name, value) in (shared or {}).items())

    @property
    def shared_names(self) -> dict[str, str]:
        """Parts that are shared, and the name under which."""
        return {part: name for part, name, _ in self._shared}

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """y [b, L, D] -> [b, L, D]; x, the input of the module before the block, is not read."""
        parts = dict(self.named_parameters()) | {part: value for part, _, value in self._shared}
        return adapter_block({name: part[None] for name, part in parts.items()}, self.activation, y)
