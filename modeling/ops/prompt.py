"""prompt: trained vectors at the virtual tokens in front of a row; training and serving form.

P virtual tokens, E width of the word embedding.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..packed import PackedBatch
from .base import OPS, PackedTap, Parts, RowOp, Static


class Prompt(nn.Module):
    """Training form: `prompt` [P, E] stands at the first P tokens of every row."""

    by_place: ClassVar[bool] = True

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(rows)

    def forward(self, x: Tensor, y: Tensor, batch: PackedBatch) -> Tensor:
        """y [1, T, E] (or a padded grid [R, L, E]) -> the same with the prompt in its places."""
        if batch.layout.padded:
            return _in_front(self.prompt.expand(y.shape[0], -1, -1), y)
        rows = self.prompt.to(y.dtype).repeat(batch.num_rows, 1)
        return y.index_copy(1, batch.virtual_tokens, rows[None])


def pack_prompt(module: nn.Module) -> PackedTap:
    """Serving form of a `Prompt`."""
    assert isinstance(module, Prompt)
    return PackedTap("prompt", {"prompt": module.prompt.detach()})


def _in_front(prompt: Tensor, y: Tensor) -> Tensor:
    """prompt [b, P, E] in place of the first P of y [b, L, E]."""
    return torch.cat([prompt.to(y.dtype), y[:, prompt.shape[1] :]], dim=1)


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    return _in_front(parts["prompt"], y)


OPS.register("prompt")(RowOp("prompt", order=9, apply=_apply, per_row=True, by_place=True))
