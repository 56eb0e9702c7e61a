"""What single rows are told, out of the logits of all of them."""

from typing import Any

import numpy as np

from modeling import Answer, HeadSpec, kind_of, readout_of
from training.loop.encode import Rows
from training.rows.items import Item
from training.tasks import Logits, Task


def told(found: Logits, encoded: Rows, spec: HeadSpec, task: Task) -> list[Answer]:
    """The answer to each row; of free text, which has none, the word F1 of what was written."""
    if task.writes:
        return [Answer(None, float(score), {}) for score in found[:, 1]]
    brought: list[list[Any]] = [[str(index) for index in range(found.shape[1])]] * len(found)
    if readout_of(spec).reads_words:
        brought = [[(word.start, word.end) for word in text.words] for text in encoded.encoded]
    return kind_of(spec).decide(spec, found.astype(np.float64), None, brought)


def own_logits(logits: Logits, encoded: Rows, row: int, spec: HeadSpec) -> list[float]:
    """Those of a row, without what makes all rows of one length."""
    readout = readout_of(spec)
    width = logits.shape[1]
    if readout.reads_words:
        width = readout.num_states(encoded.of(row)[0]) * len(spec.labels)
    return [float(value) for value in logits[row, :width]]


def entities_of(answer: Answer, text: Item) -> list[dict[str, Any]] | None:
    """As the service says them; None where an answer is something else."""
    if answer.entities is None:
        return None
    return [
        {"start": start, "end": end, "label": label, "text": str(text)[start:end], "score": score}
        for start, end, label, score in answer.entities
    ]
