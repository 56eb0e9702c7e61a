"""What heads read of rows, and what they answer: rows may have different numbers of states and logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class States:
    """Values [M, H], of which each row has `counts` [N], one row after the other (on the same device)."""

    values: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, rows: Sequence[int]) -> "States":
        """Those of some rows, in the order asked for."""
        index = torch.as_tensor(rows, device=self.counts.device)
        counts = self.counts[index]
        return States(self.values[spans(self._starts[index], counts)], counts)

    def by_row(self, logits: Tensor) -> Tensor:
        """Logits [M, L] of all states -> [N, P]: each row's own, flat, and NaN behind them."""
        width = int(self.counts.max()) if len(self.counts) else 0
        if len(logits) == len(self.counts) * width:
            return logits.reshape(len(self.counts), -1)
        places = torch.arange(width, device=self.counts.device) < self.counts[:, None]
        padded = logits.new_full((*places.shape, logits.shape[1]), torch.nan)
        padded[places] = logits
        return padded.flatten(1)

    @property
    def _starts(self) -> Tensor:
        return self.counts.cumsum(0) - self.counts


def spans(starts: Tensor, counts: Tensor) -> Tensor:
    """The places start, start + 1, ... of each span, one span after the other."""
    ends = counts.cumsum(0)
    within = torch.arange(int(counts.sum()), device=counts.device)
    return within + (starts - ends + counts).repeat_interleave(counts)
