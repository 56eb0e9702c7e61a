"""scikit-learn on unit-length embeddings: what ten lines give.

Logistic regression with C = 1 (its default), or with C by its own cross-validation (`LogisticRegressionCV`);
for numbers ridge regression with alpha = 1 (its default), or with alpha by `RidgeCV`.
"""

import warnings
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.peers.embedding import features
from benchmarks.peers.problem import Problem

_MAX_ITER = 1000  # the default of 100 stops short of the optimum
_STRENGTHS = 10  # of C: the library's default grid, 1e-4 to 1e4
_FOLDS = 5


def logistic(problem: Problem) -> list[float]:
    """With the strength of regularisation that the library has by default."""
    from sklearn.linear_model import LogisticRegression, Ridge

    return _answers(problem, Ridge() if problem.numbers else LogisticRegression(max_iter=_MAX_ITER))


def logistic_cv(problem: Problem) -> list[float]:
    """With the strength that cross-validation on the train rows chooses."""
    from sklearn.linear_model import LogisticRegressionCV, RidgeCV

    if problem.numbers:
        return _answers(problem, RidgeCV(alphas=np.logspace(-3, 3, 13)))
    folds = min(_FOLDS, max(Counter(problem.labels).values()))  # as the library demands
    model = LogisticRegressionCV(
        Cs=_STRENGTHS, cv=max(2, folds), max_iter=_MAX_ITER, scoring="accuracy", use_legacy_attributes=False
    )
    return _answers(problem, model)


def _answers(problem: Problem, model: Any) -> list[float]:
    wanted = np.array(problem.labels)
    if not problem.numbers:
        wanted = wanted.astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer rows than folds, a strength that converges late
        model.fit(features(problem.texts, problem.backbone, problem.device), wanted)
    told = model.predict(features(problem.test, problem.backbone, problem.device))
    return [float(value) for value in told]
