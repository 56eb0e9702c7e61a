"""Texts of both splits as token ids, and pooled states of a frozen backbone: what every stage starts from.

Token ids are made once per run. Features [N, H] are the pooled states without any adapter; stage one reuses
them over all its epochs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modeling import Backbone, Encoded, TextItem
from training.batches import evaluation_batches
from training.errors import ConfigError

EVALUATION_TOKENS = 8192
_CHUNK_TEXTS = 2048


@dataclass(frozen=True)
class Rows:
    """Token ids of one split, in its order."""

    encoded: tuple[Encoded, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens per row, after truncation."""
        return [len(row) for row in self.encoded]

    @property
    def num_truncated(self) -> int:
        """Rows that lost tokens."""
        return sum(row.truncated for row in self.encoded)

    def take(self, rows: Sequence[int]) -> list[Encoded]:
        """Some rows, in the order asked for."""
        return [self.encoded[row] for row in rows]


def encode_texts(backbone: Backbone, texts: Sequence[TextItem], max_tokens: int) -> Rows:
    """Tokenise and cut to `max_tokens`.

    Raises:
        ConfigError: the backbone has fewer positions than `max_tokens`.
    """
    if max_tokens > backbone.max_tokens:
        raise ConfigError(
            f"max_tokens is {max_tokens}; {backbone.name} has positions for {backbone.max_tokens}: lower it"
        )
    encoded: list[Encoded] = []
    for start in range(0, len(texts), _CHUNK_TEXTS):
        encoded += backbone.text.encode(texts[start : start + _CHUNK_TEXTS], max_tokens)
    return Rows(tuple(encoded))


def pooled_states(backbone: Backbone, encoded: Sequence[Encoded], pooling: str) -> Tensor:
    """One forward pass with whatever is attached: [B, H], gradients as the caller has set them."""
    batch = backbone.pack(encoded)
    return backbone.pool(backbone.hidden(batch), batch, pooling)


def state_batches(rows: Rows) -> list[list[int]]:
    """The batches of `all_states`."""
    return evaluation_batches(rows.lengths, EVALUATION_TOKENS)


def all_states(
    backbone: Backbone, rows: Rows, pooling: str, after_batch: Callable[[], None] | None = None
) -> Tensor:
    """Pooled states of all rows [N, H] without gradients, in the order of the rows."""
    states = torch.empty(len(rows.encoded), backbone.hidden_size, device=backbone.device)
    with torch.no_grad():
        for batch in state_batches(rows):
            index = torch.as_tensor(batch, device=backbone.device)
            states[index] = pooled_states(backbone, rows.take(batch), pooling)
            if after_batch is not None:
                after_batch()
    return states
