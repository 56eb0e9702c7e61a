"""Items of both splits as token ids, and what a backbone says about them: pooled states, strings, texts.

Token ids are made once per run. Features are the pooled states without any adapter, [N, H] (or [N, K, H] for
K choices a row); stage one reuses them over all its epochs. `virtual` tokens of a method stand in front of
every text and count in every budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modeling import Backbone, Encoded, decoding, pooled_states
from training.batches import evaluation_batches
from training.data import TaskData
from training.errors import ConfigError
from training.items import Item, pairs_of
from training.tasks import FreeText

EVALUATION_TOKENS = 8192
_CHUNK_TEXTS = 2048


@dataclass(frozen=True)
class Rows:
    """Token ids of one split, in its order; `per_row` texts to a row (K for a multiple choice, else 1)."""

    encoded: tuple[Encoded, ...]
    per_row: int = 1

    def __len__(self) -> int:
        return len(self.encoded) // self.per_row

    @property
    def lengths(self) -> list[int]:
        """Tokens per row, after truncation."""
        return [sum(map(len, self.of(row))) for row in range(len(self))]

    @property
    def num_truncated(self) -> int:
        """Rows that lost tokens."""
        return sum(self.truncated)

    @property
    def truncated(self) -> list[bool]:
        """Which rows lost tokens."""
        return [any(text.truncated for text in self.of(row)) for row in range(len(self))]

    def of(self, row: int) -> tuple[Encoded, ...]:
        """The texts of one row."""
        return self.encoded[row * self.per_row : (row + 1) * self.per_row]

    def take(self, rows: Sequence[int]) -> list[Encoded]:
        """The texts of some rows, in the order asked for."""
        return [text for row in rows for text in self.of(row)]

    def with_targets(self, targets: Sequence[Sequence[int]]) -> "Rows":
        """The same rows of one text each, which know the string (as ids, with its end) that they score."""
        pairs = zip(self.encoded, targets, strict=True)
        return Rows(tuple(replace(text, target=tuple(ids)) for text, ids in pairs))


def encode_items(backbone: Backbone, items: Sequence[Item], max_tokens: int, virtual: int = 0) -> Rows:
    """Tokenise and cut to `max_tokens`. Items of one split have equally many texts.

    Raises:
        ConfigError: the backbone has not enough positions for `max_tokens` and the `virtual` tokens.
    """
    if max_tokens + virtual > backbone.max_tokens or max_tokens < 1:
        taken = f", of which the method takes {virtual}" if virtual else ""
        room = backbone.max_tokens - virtual
        raise ConfigError(
            f"max_tokens is {max_tokens}; {backbone.name} has positions for {backbone.max_tokens}{taken}: "
            f"lower it{f' to at most {room}' if room > 0 else ''}"
        )
    texts = [text for item in items for text in pairs_of(item)]
    encoded: list[Encoded] = []
    for start in range(0, len(texts), _CHUNK_TEXTS):
        encoded += backbone.text.encode(texts[start : start + _CHUNK_TEXTS], max_tokens)
    return Rows(tuple(encoded), len(texts) // max(1, len(items)))


def with_longest_answer(data: TaskData, backbone: Backbone) -> TaskData:
    """Free text: a task that knows how long its train answers are, which only a tokenizer can tell.

    Raises:
        ConfigError: the backbone has no decoder, or not enough positions for the longest answer.
    """
    task = data.task
    if not isinstance(task, FreeText) or not backbone.is_encoder_decoder:
        return data  # the form is checked later
    longest = {}
    for split in (data.train, data.validation):
        lengths = [len(ids) for ids in backbone.label_ids(task.strings(split.targets))]
        longest[split.name] = max(lengths)
        if max(lengths) > backbone.max_tokens:
            row = split.examples[lengths.index(max(lengths))].row
            raise ConfigError(
                f"the answer of {split.name} row {row} has {max(lengths)} tokens; {backbone.name} has "
                f"{backbone.max_tokens} positions: shorten or remove it"
            )
    return replace(data, task=replace(task, max_new_tokens=longest[data.train.name]))


def row_states(
    backbone: Backbone, rows: Rows, chosen: Sequence[int], pooling: str, virtual: int = 0
) -> Tensor:
    """One forward pass with whatever is attached: [B, H], or [B, K, H] for K texts a row; gradients flow."""
    states = pooled_states(backbone, backbone.pack(rows.take(chosen), virtual), pooling)
    return states if rows.per_row == 1 else states.view(len(chosen), rows.per_row, -1)


def state_batches(rows: Rows, extra: int = 0) -> list[list[int]]:
    """Batches of rows for a pass without gradients; each text costs `extra` tokens more than its own."""
    costs = [length + extra * rows.per_row for length in rows.lengths]
    return evaluation_batches(costs, EVALUATION_TOKENS)


def all_states(
    backbone: Backbone,
    rows: Rows,
    pooling: str,
    after_batch: Callable[[], None] | None = None,
    virtual: int = 0,
) -> Tensor:
    """Pooled states of all rows [N, H] or [N, K, H] without gradients, in the order of the rows."""
    choices = () if rows.per_row == 1 else (rows.per_row,)
    states = torch.empty((len(rows), *choices, backbone.hidden_size), device=backbone.device)
    with torch.no_grad():
        for batch in state_batches(rows, virtual):
            index = torch.as_tensor(batch, device=backbone.device)
            states[index] = row_states(backbone, rows, batch, pooling, virtual)
            if after_batch is not None:
                after_batch()
    return states


def all_label_logits(backbone: Backbone, rows: Rows, labels: Sequence[str], virtual: int = 0) -> Tensor:
    """log p(label string | source) of all rows [N, L] without gradients, in the order of the rows."""
    ids = backbone.label_ids(labels)
    logits = torch.empty(len(rows), len(labels), device=backbone.device)
    with torch.no_grad():
        for batch in state_batches(rows, virtual + sum(map(len, ids))):
            index = torch.as_tensor(batch, device=backbone.device)
            packed = backbone.pack(rows.take(batch), virtual)
            logits[index] = decoding.label_logits(backbone, packed, ids)
    return logits


def all_target_logits(backbone: Backbone, rows: Rows, virtual: int = 0) -> Tensor:
    """log p(target | source) of all rows [N, 1], each with its own target, without gradients."""
    longest = max((len(text.target) for text in rows.encoded), default=0)
    logits = torch.empty(len(rows), 1, device=backbone.device)
    with torch.no_grad():
        for batch in state_batches(rows, virtual + longest):
            texts = rows.take(batch)
            index = torch.as_tensor(batch, device=backbone.device)
            targets = [list(text.target) for text in texts]
            logits[index, 0] = decoding.target_scores(backbone, backbone.pack(texts, virtual), targets)
    return logits


def all_texts(backbone: Backbone, rows: Rows, max_new_tokens: int, virtual: int = 0) -> list[str]:
    """What the decoder writes for each row, greedily, in the order of the rows."""
    texts = [""] * len(rows)
    for batch in state_batches(rows, virtual + max_new_tokens):
        packed = backbone.pack(rows.take(batch), virtual)
        written = decoding.generate(backbone, packed, max_new_tokens)
        for index, text in zip(batch, written, strict=True):
            texts[index] = text
    return texts
