"""Passes over all rows of a split: what an adapter answers, in training and in serving form; features.

Features are what the head reads without any adapter; stage one reuses them over all its epochs. Virtual
tokens of a method stand in front of every text and count in every budget.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modeling import (
    Adapter,
    Backbone,
    Encoded,
    HeadSpec,
    PackedBatch,
    ServedModel,
    decoding,
    readout_of,
)
from modeling.kinds.base import by_row
from modeling.stack import noted
from training.loop.embedded import embedded
from training.loop.encode import Rows, state_batches
from training.loop.precision import RoundedProducts
from training.loop.prefix import StatesBelow
from training.loop.states import States, spans
from training.metrics.ranking import Embedded
from training.tasks import Logits


@dataclass(frozen=True)
class Answered:
    """`logits` [N, P] as probes record them (L, K, or L of each word; NaN behind the last of a shorter row);
    `texts`: what was written, where something was; `embedded`: the texts of all rows, where partners are
    looked for among them."""

    logits: Logits
    texts: list[str] | None = None
    embedded: Embedded | None = None


def features(
    backbone: Backbone,
    rows: Rows,
    spec: HeadSpec,
    after_batch: Callable[[], None],
    *,
    below: StatesBelow | None = None,
    products: RoundedProducts | None = None,
    virtual: int = 0,
    enter: StatesBelow | None = None,
) -> States:
    """What the head reads of all rows, without gradients, with whatever is attached.

    The same pass fills the states `below` a layer, or begins with those that `enter` it. Features are
    float32's unless `products` are given.
    """
    readout = readout_of(spec)
    sizes = [sum(readout.num_states(text) for text in rows.of(row)) for row in range(len(rows))]
    counts = torch.tensor(sizes, dtype=torch.int64, device=backbone.device)
    values = torch.empty((sum(sizes), backbone.hidden_size), device=backbone.device)
    starts = counts.cumsum(0) - counts
    rounded = nullcontext() if products is None else products.used()
    noting = nullcontext(list[Tensor]()) if below is None else noted(backbone.layers, below.layer)
    with torch.no_grad(), rounded, noting as entering:
        for batch in state_batches(rows, virtual):
            packed = packed_rows(backbone, rows, batch, virtual, enter)
            with backbone.running(packed) as hidden:
                found = readout.states(backbone, hidden, packed, spec.pooling)
            if below is not None:
                below.note(packed, rows.numbers(batch), entering.pop()[0])
            index = torch.as_tensor(batch, device=backbone.device)
            values[spans(starts[index], counts[index])] = found
            after_batch()
    return States(readout.features(values), counts // rows.per_read)


@torch.no_grad()
def trained(backbone: Backbone, adapter: Adapter, rows: Rows, below: StatesBelow | None = None) -> Answered:
    """What the training form answers; the adapter must be attached. Passes begin with the states `below`."""
    readout, virtual = readout_of(adapter.spec), adapter.virtual_tokens

    def logits(batch: Sequence[int]) -> list[Logits]:
        packed = packed_rows(backbone, rows, batch, virtual, below)
        found = readout.logits(backbone, packed, adapter.spec, adapter.head)
        ends = np.cumsum([readout.num_states(text) for text in rows.take(batch)[:: rows.per_read]])
        return [one.reshape(-1) for one in np.split(found.float().cpu().numpy(), ends[:-1])]

    def written(texts: list[Encoded], limit: int) -> list[str]:
        return decoding.generate(backbone, backbone.pack(texts, virtual), limit)

    def embeddings(batch: Sequence[int]) -> list[Logits]:
        packed = packed_rows(backbone, rows, batch, virtual, below)
        found = readout.embeddings(backbone, packed, adapter.spec.pooling)
        return list(found.float().cpu().numpy())

    strings = backbone.label_ids(adapter.spec.labels) if readout.decodes else []
    cost = readout.cost(adapter.spec, strings, backbone)
    extra = virtual + cost.fixed + cost.per_token * rows.longest + rows.longest_target
    if readout.finds(adapter.spec):
        values = embedded(rows, extra, embeddings)
        return Answered(values.cosines, embedded=values)
    limit = adapter.spec.max_new_tokens if readout.writes else None
    texts = None if limit is None else _texts(rows, virtual, limit, written)
    return Answered(_logits(rows, extra, logits), texts)


def served(model: ServedModel, adapter: Adapter, rows: Rows, *, generate: bool = False) -> Answered:
    """What the serving form answers. `generate` has label strings written freely, too."""
    spec, slot = adapter.spec, model.install(adapter.pack())
    try:
        place = model.placement(slot)

        def logits(batch: Sequence[int]) -> list[Logits]:
            asked = rows.together(rows.take(batch))
            reads = [(index, slot) for index in range(len(asked))]
            return model.run(asked, [place.body_slot] * len(asked), reads)

        def written(texts: list[Encoded], limit: int) -> list[str]:
            return model.generate(texts, [place.body_slot] * len(texts), limit)

        def embeddings(batch: Sequence[int]) -> list[Logits]:
            texts = rows.take(batch)
            return model.run(texts, [place.body_slot] * len(texts), [(i, slot) for i in range(len(texts))])

        extra = place.virtual_tokens + place.decoder_tokens + rows.longest_target
        extra += place.decoder_per_token * rows.longest
        found = _logits(rows, extra, logits)
        if readout_of(spec).finds(spec):
            return Answered(found, embedded=embedded(rows, extra, embeddings))
        if not (generate or readout_of(spec).writes):
            return Answered(found)
        limit = spec.max_new_tokens or max(map(len, model.backbone.label_ids(spec.labels))) + 1
        return Answered(found, _texts(rows, place.virtual_tokens, limit, written))
    finally:
        model.remove(slot)


def packed_rows(
    backbone: Backbone, rows: Rows, batch: Sequence[int], virtual: int, below: StatesBelow | None
) -> PackedBatch:
    """The texts of some rows, to begin with what is kept of them."""
    packed = backbone.pack(rows.take(batch), virtual)
    return packed if below is None else below.enter(packed, rows.numbers(batch), backbone.dtype)


def _logits(rows: Rows, extra: int, run: Callable[[list[int]], list[Logits]]) -> Logits:
    """Of all rows [N, P], in their order; each text costs `extra` tokens more than its own."""
    found: list[Logits] = [np.empty(0, np.float32)] * len(rows)
    for batch in state_batches(rows, extra):
        texts = iter(run(batch))
        for row in batch:
            found[row] = np.concatenate([next(texts) for _ in range(rows.per_row // rows.per_read)])
    return by_row(found).astype(np.float32)


def _texts(
    rows: Rows, virtual: int, limit: int, run: Callable[[list[Encoded], int], Sequence[str]]
) -> list[str]:
    """At most `limit` tokens for each row, greedily."""
    texts = [""] * len(rows)
    for batch in state_batches(rows, virtual + limit):
        for index, text in zip(batch, run(rows.take(batch), limit), strict=True):
            texts[index] = text
    return texts
