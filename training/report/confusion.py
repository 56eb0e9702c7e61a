"""Which labels are taken for which, and how each does: tables of a page, out of judged rows. Pure.

N rows, L labels. In a row, a label that is wanted and not told is missed, one that is told and not wanted is
added; with one label a row these are the two that were confused.
"""

from dataclasses import dataclass

import numpy as np

from training.tasks.judged import Ints, Judged, LabelScore

MOST_IN_MATRIX = 24
_BLOCK = 15


@dataclass(frozen=True)
class Pair:
    """Rows in which `wanted` was missed and `told` was added; `rows` are their numbers."""

    wanted: str
    told: str
    rows: tuple[int, ...]


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
    """The labels to draw: all of few; of many the block that holds most confusions, found greedily.

    Each step takes what gains most for a label: one that is confused with those that are in, or a new pair.
    """
    if len(counts) <= MOST_IN_MATRIX:
        return list(range(len(counts)))
    both = counts + counts.T
    np.fill_diagonal(both, 0)
    often, chosen = both.sum(axis=1), np.zeros(len(both), dtype=bool)
    while chosen.sum() < _BLOCK:
        gains = np.where(chosen, -1, both[:, chosen].sum(axis=1))
        apart = np.where(chosen[:, None] | chosen[None], 0, both)
        if apart.max() / 2 > gains.max() and chosen.sum() + 2 <= _BLOCK:
            chosen[list(np.unravel_index(apart.argmax(), apart.shape))] = True
        else:
            chosen[max(np.flatnonzero(gains == gains.max()).tolist(), key=lambda label: often[label])] = True
    return np.flatnonzero(chosen).tolist()


def label_scores(judged: Judged) -> list[LabelScore]:
    """Each label, the one whose rows lose most first (without losses the one found worst)."""
    found = list(judged.by_label or ()) if judged.sets is None else _of_sets(judged, *judged.sets)
    return sorted(found, key=lambda one: (not one.num_wanted, one.f1 if one.loss is None else -one.loss))


def _of_sets(judged: Judged, wanted: Ints, told: Ints) -> list[LabelScore]:
    hits, rows, answers = (wanted & told).sum(axis=0), wanted.sum(axis=0), told.sum(axis=0)
    return [
        LabelScore(
            name,
            int(rows[label]),
            int(answers[label]),
            float(hits[label] / max(1, answers[label])),
            float(hits[label] / max(1, rows[label])),
            float(2 * hits[label] / max(1, rows[label] + answers[label])),
            float(judged.loss[wanted[:, label] == 1].mean()) if rows[label] else None,
        )
        for label, name in enumerate(judged.names)
    ]
