"""Train rows whose own label is in doubt: a head that has not seen the row is sure of another answer.

After Northcutt et al., Confident Learning (2021): a row is suspected when the answer that is told instead is
at least as likely as labels of rows are on average (one average for all labels, so that rare ones have one,
too). Of numbers: off by over three robust standard deviations.
"""

import numpy as np

from training.tasks.judged import Ints, Judged

_ROBUST = 1.4826  # times the median distance is the standard deviation of normal errors
_FAR = 3.0


def can_be_suspected(judged: Judged) -> bool:
    """Whether answers are right or wrong, or numbers: of others nothing is known."""
    return judged.numbers is not None or (judged.right is not None and judged.sure is not None)


def suspected(judged: Judged) -> Ints:
    """Rows by how wrong the answer of a head is that has not seen them, the worst first."""
    if judged.right is not None and judged.sure is not None:
        usual = np.exp(-judged.loss).mean()
        rows = np.flatnonzero(~judged.right & (judged.sure >= usual))
    elif judged.numbers is not None:
        rows = np.flatnonzero(judged.loss > _FAR * _ROBUST * np.median(judged.loss))
    else:
        rows = np.empty(0, dtype=np.int64)
    return rows[np.argsort(-judged.loss[rows], kind="stable")]
