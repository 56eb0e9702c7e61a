"""The embeddings of all texts of a split, for what is measured over all rows together."""

from collections.abc import Callable, Sequence

import numpy as np

from training.loop.encode import Rows, state_batches
from training.metrics.ranking import Embedded
from training.tasks import Logits


def embedded(rows: Rows, extra: int, run: Callable[[list[int]], Sequence[Logits]]) -> Embedded:
    """Of rows of pairs; `run` gives the embedding [H] of each text of some.

    Each text costs `extra` tokens more than its own.
    """
    found: list[Logits] = [np.empty(0, np.float32)] * len(rows.encoded)
    for batch in state_batches(rows, extra):
        values = iter(run(batch))
        for row in batch:
            for place in range(row * rows.per_row, (row + 1) * rows.per_row):
                found[place] = next(values)
    known: dict[tuple[int, ...], int] = {}
    numbers = [known.setdefault(tuple(text.ids), len(known)) for text in rows.encoded]
    shape = len(rows), rows.per_row
    return Embedded(np.stack(found).reshape(*shape, -1), np.array(numbers, np.int64).reshape(shape))
