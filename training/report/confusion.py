"""Which labels are taken for which, and how each does: tables of a page, out of judged rows. Pure.

N rows, L labels. In a row, a label that is wanted and not told is missed, one that is told and not wanted is
added; with one label a row these are the two that were confused.
"""

from dataclasses import dataclass

import numpy as np

from training.tasks.judged import Ints, Judged

MOST_IN_MATRIX = 24
_SMALLEST_BLOCK = 15


@dataclass(frozen=True)
class Pair:
    """Rows in which `wanted` was missed and `told` was added; `rows` are their numbers."""

    wanted: str
    told: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class LabelScore:
    """How one label does. `loss` is the mean loss of the rows that have it, NaN without any."""

    name: str
    rows: int
    told: int
    precision: float
    recall: float
    f1: float
    loss: float


def confused_pairs(judged: Judged) -> list[Pair]:
    """Every pair of a missed and an added label, the one with most rows first."""
    if judged.sets is None:
        return []
    wanted, told = judged.sets
    found: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero((wanted != told).any(axis=1)).tolist():
        for missed in np.flatnonzero(wanted[row] > told[row]).tolist():
            for added in np.flatnonzero(told[row] > wanted[row]).tolist():
                found.setdefault((missed, added), []).append(row)
    order = sorted(found, key=lambda pair: (-len(found[pair]), pair))
    return [Pair(judged.names[one], judged.names[other], tuple(found[one, other])) for one, other in order]


def confusions(judged: Judged) -> Ints:
    """Counts [L, L] of rows with one label: wanted in the rows, told in the columns."""
    assert judged.sets is not None, "a matrix is of labels: this is a bug"
    wanted, told = judged.sets
    return wanted.T @ told


def block_of(counts: Ints) -> list[int]:
    """The labels to draw: all of few; of many those with most rows off the diagonal, in their order."""
    if len(counts) <= MOST_IN_MATRIX:
        return list(range(len(counts)))
    wrong = counts - np.diag(np.diag(counts))
    often = wrong.sum(axis=0) + wrong.sum(axis=1)
    return sorted(np.argsort(-often, kind="stable")[:_SMALLEST_BLOCK].tolist())


def label_scores(judged: Judged) -> list[LabelScore]:
    """Each label, the one whose rows lose most first; labels without rows at the end."""
    if judged.sets is None:
        return []
    wanted, told = judged.sets
    hits, rows, answers = (wanted & told).sum(axis=0), wanted.sum(axis=0), told.sum(axis=0)
    found = []
    for label, name in enumerate(judged.names):
        mine = wanted[:, label] == 1
        found.append(
            LabelScore(
                name,
                int(rows[label]),
                int(answers[label]),
                float(hits[label] / max(1, answers[label])),
                float(hits[label] / max(1, rows[label])),
                float(2 * hits[label] / max(1, rows[label] + answers[label])),
                float(judged.loss[mine].mean()) if mine.any() else float("nan"),
            )
        )
    return sorted(found, key=lambda one: (not one.rows, -one.loss if one.rows else 0.0))
