"""Rows beside their answers, as a person looks at them: what a page shows, whatever the kind of task.

N rows, L labels. A part that a kind has not is None: whoever shows rows shows the parts that are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from training.metrics.calibration import Bools, Confidence, Floats

Ints = npt.NDArray[np.int64]
Bests = Sequence[dict[str, float]]
SHOWN_SCORES = 3
"""How many of a row's scores are shown."""


class LabelScore(NamedTuple):
    """One label: how often it is wanted and told, and how well it is found.

    `loss` is the mean of the rows that have it; None where there are none.
    """

    name: str
    num_wanted: int
    num_told: int
    precision: float
    recall: float
    f1: float
    loss: float | None = None


@dataclass(frozen=True)
class Judged:
    """`wanted` and `told` [N] are targets and answers in words; `loss` [N] says how wrong each answer is.

    `right` [N]: None where answers are numbers, which are never right or wrong. `sure` [N] is the score of
    each answer, `scores` [N] its best few, by name. `confidence` is what a reliability curve is drawn of.
    `sets` are labels of [N, L] noughts and ones, wanted and told; `single`: each row has one, so that one is
    taken for another. `numbers` are [N] and [N], wanted and told. `by_label`: of labels that
    parts of rows have.
    """

    names: tuple[str, ...]
    wanted: Sequence[Any]
    told: Sequence[Any]
    loss: Floats
    right: Bools | None = None
    sure: Floats | None = None
    scores: Bests | None = None
    confidence: Confidence | None = None
    sets: tuple[Ints, Ints] | None = None
    single: bool = False
    numbers: tuple[Floats, Floats] | None = None
    by_label: Sequence[LabelScore] | None = None

    @property
    def num_rows(self) -> int:
        return len(self.wanted)

    @property
    def wrong(self) -> Ints:
        """The rows that are not right, of numbers all; the surest first, without scores the worst."""
        rows = np.arange(self.num_rows) if self.right is None else np.flatnonzero(~self.right)
        order = -(self.loss if self.sure is None else self.sure)[rows]
        return rows[np.argsort(order, kind="stable")]


def one_of(places: Sequence[int], num_labels: int) -> Ints:
    """Class numbers [N] as noughts and ones [N, L]."""
    found = np.zeros((len(places), num_labels), dtype=np.int64)
    found[np.arange(len(places)), list(places)] = 1
    return found
