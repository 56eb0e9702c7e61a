"""prompt: trained vectors at the virtual tokens in front of a row; training and serving form.

P virtual tokens, E width of the word embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..packed import PackedBatch
from .base import OPS, Parts, RowOp, Static, TapModule


def _in_front(prompt: Tensor, y: Tensor) -> Tensor:
    """prompt [b, P, E] in place of the first P of y [b, L, E]."""
    return torch.cat([prompt.to(y.dtype), y[:, prompt.shape[1] :]], dim=1)


def _apply(frozen: nn.Module, parts: Parts, static: Static, x: Tensor, y: Tensor) -> Tensor:
    return _in_front(parts["prompt"], y)


class Prompt(TapModule):
    """Training form: `prompt` [P, E] stands at the first P tokens of every row."""

    op = OPS.add(RowOp("prompt", order=9, apply=_apply, per_row=True, by_place=True))

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(rows)

    def forward(self, x: Tensor, y: Tensor, batch: PackedBatch | None = None) -> Tensor:
        """y [1, T, E] (or a padded grid [R, L, E]) of `batch` -> the same with the prompt in its places."""
        assert batch is not None, "a prompt acts outside a batch: this is a bug"
        if batch.layout.padded:
            return _in_front(self.prompt.expand(y.shape[0], -1, -1), y)
        rows = self.prompt.to(y.dtype).repeat(batch.num_rows, 1)
        return y.index_copy(1, batch.virtual_tokens, rows[None])
