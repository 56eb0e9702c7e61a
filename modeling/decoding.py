"""What a decoder is run for: a state that sums a text up, the probability of given strings, or new text.

It knows token ids and probabilities; the backbone runs the passes. `hidden` [T, H] are the encoder's states
of a packed batch. N sequences, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from .layout import put
from .packed import PackedBatch
from .target import CrossGroup, TargetBatch, step_targets, targets

if TYPE_CHECKING:
    from .backbone import Backbone

MAX_PASS_TOKENS = 2048  # target tokens of one pass when strings are scored, so that logits stay below 300 MB


def end_states(backbone: Backbone, hidden: Tensor, batch: PackedBatch) -> Tensor:
    """The decoder's state at each text's last token [B, H] in packed order.

    It reads the text itself, shifted by one (Lewis et al. 2020, arXiv 1910.13461, section 3.1).
    """
    start = _start(backbone)
    sequences = [(row, [start, *batch.encoded[i].ids[:-1]]) for row, i in enumerate(batch.order)]
    target = targets(batch, sequences)
    return backbone.decode(hidden, batch, target).index_select(0, target.last_tokens())


def score(
    backbone: Backbone, hidden: Tensor, batch: PackedBatch, asked: Sequence[tuple[int, list[list[int]]]]
) -> list[Tensor]:
    """log p(string | text) of every string of each (packed row, strings as ids): [L] each, in this order."""
    wanted = sorted((row, number) for number, (row, _) in enumerate(asked))
    flat = [(row, number, ids) for row, number in wanted for ids in asked[number][1]]
    found: list[list[Tensor]] = [[] for _ in asked]
    for chunk in _chunks(flat):
        values = _log_probabilities(backbone, hidden, batch, [(row, ids) for row, _, ids in chunk])
        for (_, number, _), value in zip(chunk, values.unbind(), strict=True):
            found[number].append(value)
    return [torch.stack(values) for values in found]


def loss(backbone: Backbone, hidden: Tensor, batch: PackedBatch, ids: Sequence[list[int]]) -> Tensor:
    """Mean cross-entropy over all tokens of one string per packed row."""
    logits, wanted, _ = _teacher_forced(backbone, hidden, batch, list(enumerate(ids)))
    return torch.nn.functional.cross_entropy(logits.float(), wanted)


def logits(backbone: Backbone, hidden: Tensor, batch: PackedBatch, ids: Sequence[list[int]]) -> list[Tensor]:
    """Logits [T_i, V] at every token of one string per packed row, the decoder being fed the string."""
    found, _, target = _teacher_forced(backbone, hidden, batch, list(enumerate(ids)))
    return list(torch.split(found, target.lengths.tolist()))


def greedy(backbone: Backbone, hidden: Tensor, batch: PackedBatch, max_new_tokens: int) -> list[list[int]]:
    """The most probable continuation of every packed row, end of sequence left out."""
    end = int(backbone.config.eos_token_id)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    ids = torch.full((batch.num_rows,), _start(backbone), device=hidden.device)
    ended = torch.zeros_like(ids, dtype=torch.bool)
    written: list[Tensor] = []
    cross: list[CrossGroup] = []
    for step in range(max_new_tokens):
        target = step_targets(batch, ids, step, cross)
        cross = target.cross
        states = backbone.decode(hidden, batch, target, cache)
        ids = backbone.logits(states, target).argmax(-1)
        ids = ids.masked_fill(ended, end)
        ended = ended | (ids == end)
        written.append(ids)
        if bool(ended.all()):
            break
    rows = torch.stack(written, 1).tolist() if written else [[] for _ in range(batch.num_rows)]
    return [row[: row.index(end)] if end in row else row for row in rows]


def _log_probabilities(
    backbone: Backbone, hidden: Tensor, batch: PackedBatch, strings: Sequence[tuple[int, list[int]]]
) -> Tensor:
    """log p [N] of strings as (packed row, ids)."""
    logits, wanted, target = _teacher_forced(backbone, hidden, batch, strings)
    wide = logits.float()
    values = wide.gather(-1, wanted[:, None])[:, 0] - wide.logsumexp(-1)  # [T]
    return torch.segment_reduce(values, "sum", lengths=put(target.lengths, values.device))


def _teacher_forced(
    backbone: Backbone, hidden: Tensor, batch: PackedBatch, strings: Sequence[tuple[int, list[int]]]
) -> tuple[Tensor, Tensor, TargetBatch]:
    """Logits [T, V] at every token of the strings, the tokens wanted there [T], and what was run."""
    start = _start(backbone)
    target = targets(batch, [(row, [start, *ids[:-1]]) for row, ids in strings])
    wanted = torch.tensor([i for _, ids in strings for i in ids], device=hidden.device)
    return backbone.logits(backbone.decode(hidden, batch, target), target), wanted, target


def _chunks(
    flat: Sequence[tuple[int, int, list[int]]],
) -> list[list[tuple[int, int, list[int]]]]:
    chunks: list[list[tuple[int, int, list[int]]]] = [[]]
    tokens = 0
    for item in flat:
        if chunks[-1] and tokens + len(item[2]) > MAX_PASS_TOKENS:
            chunks.append([])
            tokens = 0
        chunks[-1].append(item)
        tokens += len(item[2])
    return chunks


def _start(backbone: Backbone) -> int:
    start = backbone.config.decoder_start_token_id
    return int(backbone.config.pad_token_id if start is None else start)
