"""Rows through the serving form of one adapter: logits, and freely generated texts."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from modeling import Adapter, ServedModel
from training.encode import Rows, state_batches
from training.tasks import Logits


def served_logits(model: ServedModel, adapter: Adapter, rows: Rows) -> Logits:
    """Logits [N, L] of all rows; [N, K] when a row has K texts, of which each gets one score."""
    outputs = rows.per_row if rows.per_row > 1 else len(adapter.spec.labels)
    logits = np.empty((len(rows), outputs), dtype=np.float32)
    longest = max(map(len, rows.encoded), default=0)
    with _resident(model, adapter) as slot:
        body = model.body_slot(slot)
        for batch in state_batches(rows, model.virtual_tokens(slot) + model.decoder_tokens(slot, longest)):
            texts = rows.take(batch)
            found = model.run(texts, [body] * len(texts), [(index, slot) for index in range(len(texts))])
            logits[batch] = np.stack(found).reshape(len(batch), outputs)
    return logits


def served_texts(model: ServedModel, adapter: Adapter, rows: Rows) -> list[str]:
    """What the decoder writes for each row, greedily; one token longer than the longest label at most."""
    limit = max(map(len, model.backbone.label_ids(adapter.spec.labels))) + 1
    texts = [""] * len(rows)
    with _resident(model, adapter) as slot:
        body = model.body_slot(slot)
        for batch in state_batches(rows, model.virtual_tokens(slot) + limit):
            written = model.generate(rows.take(batch), [body] * len(batch), limit)
            for index, text in zip(batch, written, strict=True):
                texts[index] = text
    return texts


@contextmanager
def _resident(model: ServedModel, adapter: Adapter) -> Iterator[int]:
    """The adapter's slot, for as long as it is needed."""
    slot = model.install(adapter.pack())
    try:
        yield slot
    finally:
        model.remove(slot)
