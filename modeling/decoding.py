"""What a decoder is run for: a state that sums a text up, the probability of given strings, or new text.

It knows token ids and probabilities; the backbone runs the passes. What takes `hidden` [T, H], the encoder's
states, is for the batch that runs; what takes none runs the batch, with whatever is attached. Strings are
ids, their end included (`Backbone.label_ids`). B texts in the caller's order, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .backbone import Backbone
from .digests import start_id
from .layout import put
from .packed import PackedBatch
from .steps import Memory, StepBatch, first_step
from .target import TargetBatch, prefix_tree, targets

Strings = Sequence[Sequence[int]]
_Asked = tuple[int, int, Sequence[int]]  # packed row, number of the question, ids
MAX_PASS_TOKENS = 2048  # target tokens of one pass when strings are scored, so that logits stay below 300 MB
_FEW = {"cpu": 4}  # rows of logits whose exponentials stay in a processor's cache
_LEFT = 0.75  # share of a batch's rows that still write at which the others leave it


def num_tokens(strings: Strings) -> int:
    """What a decoder reads to score strings after one text: what they begin with in common once."""
    return len({tuple(ids[:length]) for ids in strings for length in range(len(ids))})


def end_states(backbone: Backbone, hidden: Tensor, batch: PackedBatch) -> Tensor:
    """The decoder's state at each text's last token [B, H] in packed order.

    It reads the text itself, shifted by one (Lewis et al. 2020, arXiv 1910.13461, section 3.1).
    """
    start = start_id(backbone.config)
    sequences = [(row, [start, *batch.encoded[i].ids[:-1]]) for row, i in enumerate(batch.order)]
    target = targets(batch, sequences)
    return backbone.decode(hidden, target).index_select(0, target.last_tokens())


def score(
    backbone: Backbone, hidden: Tensor, batch: PackedBatch, asked: Sequence[tuple[int, Strings]]
) -> list[Tensor]:
    """log p(string | text) of every string of each (the caller's row, strings): [L] each, as asked."""
    place = batch.inverse.tolist()
    wanted = sorted((place[row], number) for number, (row, _) in enumerate(asked))
    flat = [(row, number, ids) for row, number in wanted for ids in asked[number][1]]
    found: list[list[Tensor]] = [[] for _ in asked]
    memory = Memory()
    for chunk in _chunks(flat):
        values = _log_probabilities(backbone, hidden, batch, [(row, ids) for row, _, ids in chunk], memory)
        for (_, number, _), value in zip(chunk, values.unbind(), strict=True):
            found[number].append(value)
    return [torch.stack(values) for values in found]


def label_logits(backbone: Backbone, batch: PackedBatch, labels: Strings) -> Tensor:
    """log p(label | text) [B, L] of every label."""
    with backbone.running(batch) as hidden:
        return torch.stack(score(backbone, hidden, batch, [(row, labels) for row in range(batch.num_rows)]))


def target_scores(backbone: Backbone, batch: PackedBatch, strings: Strings) -> Tensor:
    """log p(string | text) [B] of each text's own string."""
    with backbone.running(batch) as hidden:
        return torch.cat(score(backbone, hidden, batch, [(row, [ids]) for row, ids in enumerate(strings)]))


def target_loss(backbone: Backbone, batch: PackedBatch, strings: Strings) -> Tensor:
    """Cross-entropy of each text's own string, the mean over all tokens."""
    with backbone.running(batch) as hidden:
        return forced_loss(backbone, hidden, batch, strings)


def forced_loss(backbone: Backbone, hidden: Tensor, batch: PackedBatch, strings: Strings) -> Tensor:
    """`target_loss` where the encoder has run."""
    packed = [(row, strings[i]) for row, i in enumerate(batch.order)]
    logits, wanted, _ = teacher_forced(backbone, hidden, batch, packed)
    return torch.nn.functional.cross_entropy(logits.float(), wanted)


def generate(backbone: Backbone, batch: PackedBatch, max_new_tokens: int) -> list[str]:
    """The most probable next token, until the end or `max_new_tokens`; one text per row."""
    return [backbone.text.decode(ids) for ids in generate_ids(backbone, batch, max_new_tokens)]


@torch.no_grad()
def generate_ids(backbone: Backbone, batch: PackedBatch, max_new_tokens: int) -> list[list[int]]:
    """`generate` as token ids, without the end of the sequence."""
    with backbone.running(batch) as hidden:
        return written_ids(backbone, hidden, batch, max_new_tokens)


@torch.no_grad()
def written_ids(
    backbone: Backbone, hidden: Tensor, batch: PackedBatch, max_new_tokens: int
) -> list[list[int]]:
    """`generate_ids` where the encoder has run."""
    found: list[list[int]] = [[] for _ in range(batch.num_rows)]
    _write(backbone, hidden, first_step(batch, start_id(backbone.config)), found, max_new_tokens)
    return [found[row] for row in batch.inverse.tolist()]


def _write(
    backbone: Backbone, hidden: Tensor, step: StepBatch, found: list[list[int]], max_new_tokens: int
) -> None:
    """Append to `found`, the texts by packed row. Rows that have ended leave the batch, a few at a time."""
    memory, end = Memory(writes=True), int(backbone.config.eos_token_id)
    writing = set(range(len(found)))
    for _ in range(max_new_tokens):
        ids = backbone.most_probable(backbone.decode(hidden, step, memory))
        for row, token in zip(step.rows.tolist(), ids.tolist(), strict=True):
            if token == end:
                writing.discard(row)
            elif row in writing:
                found[row].append(token)
        if not writing:
            return
        step = step.following(ids)
        if len(writing) <= _LEFT * len(step.rows):
            places = [place for place, row in enumerate(step.rows.tolist()) if row in writing]
            step = step.only(places)
            memory.only(torch.tensor(places, device=ids.device))


def _log_probabilities(
    backbone: Backbone,
    hidden: Tensor,
    batch: PackedBatch,
    strings: Sequence[tuple[int, Sequence[int]]],
    memory: Memory,
) -> Tensor:
    """log p [N] of N strings as (packed row, ids). What strings of a row begin with in common runs once."""
    start = start_id(backbone.config)
    target = prefix_tree(batch, [(row, [start, *ids[:-1]]) for row, ids in strings])
    wide = backbone.logits(backbone.decode(hidden, target, memory)).float()  # [T, V]
    few = _FEW.get(wide.device.type, len(wide))
    totals = torch.cat([part.logsumexp(-1) for part in torch.split(wide, few)])
    wanted, tokens = torch.tensor([i for _, ids in strings for i in ids], device=wide.device), target.tokens()
    values = wide[tokens, wanted] - totals.index_select(0, tokens)  # [E]
    return torch.segment_reduce(values, "sum", lengths=put(target.lengths, values.device))


def teacher_forced(
    backbone: Backbone, hidden: Tensor, batch: PackedBatch, strings: Sequence[tuple[int, Sequence[int]]]
) -> tuple[Tensor, Tensor, TargetBatch]:
    """Strings as (packed row, ids) fed to the decoder: logits [T, V], the tokens wanted [T], what was run."""
    start = start_id(backbone.config)
    target = targets(batch, [(row, [start, *ids[:-1]]) for row, ids in strings])
    wanted = torch.tensor([i for _, ids in strings for i in ids], device=hidden.device)
    return backbone.logits(backbone.decode(hidden, target)), wanted, target


def _chunks(flat: Sequence[_Asked]) -> list[list[_Asked]]:
    chunks: list[list[_Asked]] = [[]]
    tokens = 0
    for item in flat:
        if chunks[-1] and tokens + len(item[2]) > MAX_PASS_TOKENS:
            chunks.append([])
            tokens = 0
        chunks[-1].append(item)
        tokens += len(item[2])
    return chunks
