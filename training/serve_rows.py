"""Rows through the serving form of one adapter: logits, freely generated texts, and what a task scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from modeling import Adapter, ServedModel
from training.encode import Rows, state_batches
from training.tasks import FreeText, Logits, Target, Task


@dataclass(frozen=True)
class ServedRows:
    """What serving gives: `scored` [N, L] is what the task scores, `recorded` [N, L] what probes hold.

    They differ for free text (see `training.tasks.free_text`); `texts` are what was written, None where
    nothing was.
    """

    scored: Logits
    recorded: Logits
    texts: list[str] | None


def served_rows(
    model: ServedModel, adapter: Adapter, rows: Rows, task: Task, targets: Sequence[Target], *, generate: bool
) -> ServedRows:
    """All rows answered. `generate` has label strings written freely, too; free text always is."""
    if isinstance(task, FreeText):
        rows = rows.with_targets(model.backbone.label_ids(task.strings(targets)))
        texts = served_texts(model, adapter, rows)
        return ServedRows(task.row_scores(texts, targets), served_logits(model, adapter, rows), texts)
    logits = served_logits(model, adapter, rows)
    return ServedRows(logits, logits, served_texts(model, adapter, rows) if generate else None)


def served_logits(model: ServedModel, adapter: Adapter, rows: Rows) -> Logits:
    """Logits [N, L] of all rows; [N, K] when a row has K texts, of which each gets one score.

    Without labels: the log probability [N, 1] of each row's own target.
    """
    outputs = rows.per_row if rows.per_row > 1 else len(adapter.spec.labels) or 1
    logits = np.empty((len(rows), outputs), dtype=np.float32)
    longest = max(map(len, rows.encoded), default=0)
    longest_target = max((len(text.target) for text in rows.encoded), default=0)
    with _resident(model, adapter) as slot:
        body = model.body_slot(slot)
        extra = model.virtual_tokens(slot) + model.decoder_tokens(slot, longest) + longest_target
        for batch in state_batches(rows, extra):
            texts = rows.take(batch)
            found = model.run(texts, [body] * len(texts), [(index, slot) for index in range(len(texts))])
            logits[batch] = np.stack(found).reshape(len(batch), outputs)
    return logits


def served_texts(model: ServedModel, adapter: Adapter, rows: Rows) -> list[str]:
    """What the decoder writes for each row, greedily: as long as the adapter says for free text, else at most
    one token longer than the longest label.
    """
    spec = adapter.spec
    limit = spec.max_new_tokens or max(map(len, model.backbone.label_ids(spec.labels))) + 1
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
