"""Passes over all rows of a split: what an adapter answers, in training and in serving form; features.

Features are what the head reads without any adapter: the states [N, K, H] of a row's K texts, or what its
readout makes of them; stage one reuses them over all its epochs. Virtual tokens of a method stand in front
of every text and count in every budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modeling import Adapter, Backbone, Encoded, HeadSpec, ServedModel, decoding, readout_of
from training.loop.embedded import embedded
from training.loop.encode import Rows, state_batches
from training.metrics.ranking import Embedded
from training.tasks import Logits


@dataclass(frozen=True)
class Answered:
    """`logits` [N, L] (or [N, K]) as probes record them; `texts`: what was written, where something was;
    `embedded`: the texts of all rows, where partners are looked for among them."""

    logits: Logits
    texts: list[str] | None = None
    embedded: Embedded | None = None


def features(backbone: Backbone, rows: Rows, spec: HeadSpec, after_batch: Callable[[], None]) -> Tensor:
    """What the head reads [N, K', F] of all rows, without gradients."""
    readout = readout_of(spec)
    states = torch.empty((len(rows), rows.per_row, backbone.hidden_size), device=backbone.device)
    with torch.no_grad():
        for batch in state_batches(rows):
            packed = backbone.pack(rows.take(batch))
            with backbone.running(packed) as hidden:
                found = readout.states(backbone, hidden, packed, spec.pooling)
            states[torch.as_tensor(batch, device=backbone.device)] = found.view(len(batch), rows.per_row, -1)
            after_batch()
    return readout.features(states)


@torch.no_grad()
def trained(backbone: Backbone, adapter: Adapter, rows: Rows) -> Answered:
    """What the training form answers; the adapter must be attached."""
    readout, virtual = readout_of(adapter.spec), adapter.virtual_tokens

    def logits(texts: list[Encoded]) -> Any:
        found = readout.logits(backbone, backbone.pack(texts, virtual), adapter.spec, adapter.head)
        return found.float().cpu().numpy()

    def written(texts: list[Encoded], limit: int) -> list[str]:
        return decoding.generate(backbone, backbone.pack(texts, virtual), limit)

    def embeddings(texts: list[Encoded]) -> list[Logits]:
        found = readout.embeddings(backbone, backbone.pack(texts, virtual), adapter.spec.pooling)
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

        def logits(texts: list[Encoded]) -> Any:
            asked = rows.together(texts)
            reads = [(index, slot) for index in range(len(asked))]
            return np.stack(model.run(asked, [place.body_slot] * len(asked), reads))

        def written(texts: list[Encoded], limit: int) -> list[str]:
            return model.generate(texts, [place.body_slot] * len(texts), limit)

        def embeddings(texts: list[Encoded]) -> list[Logits]:
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


def _logits(rows: Rows, extra: int, run: Callable[[list[Encoded]], Any]) -> Logits:
    """Of all rows [N, L], in their order; each text costs `extra` tokens more than its own."""
    batches = state_batches(rows, extra)
    found = np.concatenate([run(rows.take(batch)).reshape(len(batch), -1) for batch in batches])
    logits: Logits = np.empty_like(found, dtype=np.float32)
    logits[[row for batch in batches for row in batch]] = found
    return logits


def _texts(
    rows: Rows, virtual: int, limit: int, run: Callable[[list[Encoded], int], Sequence[str]]
) -> list[str]:
    """At most `limit` tokens for each row, greedily."""
    texts = [""] * len(rows)
    for batch in state_batches(rows, virtual + limit):
        for index, text in zip(batch, run(rows.take(batch), limit), strict=True):
            texts[index] = text
    return texts
