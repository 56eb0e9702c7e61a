"""How well the partner of a text is found among the texts of all rows, by the cosines of embeddings."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.metrics.scores import Floats, Measures

_CHUNK_ROWS = 512  # questions whose cosines with all answers are held at once


@dataclass(frozen=True)
class Embedded:
    """Unit embeddings [N, 2, H] of the texts of pairs, and numbers [N, 2] that equal texts have in common."""

    values: npt.NDArray[np.float32]
    texts: npt.NDArray[np.int64]

    @property
    def cosines(self) -> npt.NDArray[np.float32]:
        """Of the two texts of each pair [N, 1]."""
        found: npt.NDArray[np.float32] = (self.values[:, 0] * self.values[:, 1]).sum(-1, keepdims=True)
        return found


def ranks(embedded: Embedded, positive: npt.NDArray[np.bool_]) -> Floats:
    """For each pair that belongs together, the place from 1 of its second text among all second texts [N].

    Each different text counts once. What is the first text itself, or another right answer to it, is left
    out. Of equal cosines the right one comes last, so that embeddings that are all alike find nothing. 0 for
    other pairs.
    """
    first, second = embedded.texts.T
    answers, places = np.unique(second, return_index=True)  # [C] texts, and a pair that each stands in
    found = np.zeros(len(first))
    right = _right_answers(embedded.texts[positive])
    asked = np.flatnonzero(positive)
    for start in range(0, len(asked), _CHUNK_ROWS):
        rows = asked[start : start + _CHUNK_ROWS]
        cosines = embedded.values[rows, 0] @ embedded.values[places, 1].T  # [rows, C]
        own = np.searchsorted(answers, second[rows])
        at_least = cosines >= cosines[np.arange(len(rows)), own][:, None]
        for number, row in enumerate(rows):
            others = np.isin(answers, [first[row], *right[first[row]]])
            found[row] = 1 + np.count_nonzero(at_least[number] & ~others)
    return found


def _right_answers(pairs: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    """The second texts of each first one."""
    found: dict[int, list[int]] = {}
    for first, second in pairs.tolist():
        found.setdefault(first, []).append(second)
    return found


def num_candidates(texts: npt.NDArray[np.int64]) -> int:
    """Among how many different texts a partner is looked for."""
    return len(np.unique(texts[:, 1]))


RETRIEVAL = Measures(
    "similarity",
    "mrr",
    {
        "mrr": lambda positive, found: float((1 / found[positive]).mean()),
        "recall_at_1": lambda positive, found: float((found[positive] == 1).mean()),
    },
)
"""Of which pairs belong together [N], and ranks [N]."""
