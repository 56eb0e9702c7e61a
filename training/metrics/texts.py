"""Scores of generated strings, as in the Compacter paper's code: an output may be anything, also no label.

Values are shares from 0 to 1 (correlations from -1 to 1), as everywhere in this package; the paper prints
them times 100. Predictions and targets are strings of equal number, N each.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from training.metrics.scores import Measures, correlation

Strings = Sequence[str]
_UNPARSEABLE = -1.0
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def scores_of_texts(predictions: Strings, targets: Strings, num_classes: int | None) -> dict[str, float]:
    """All metrics of generated strings: digits of `num_classes` classes, or numbers when that is None."""
    if num_classes is None:
        values = {"pearson": pearson(predictions, targets), "spearman": spearman(predictions, targets)}
        return {"pearson_spearman": sum(values.values()) / 2, **values}
    values = {
        "accuracy": accuracy(predictions, targets),
        "macro_f1": macro_f1(predictions, targets, num_classes),
        "matthews": matthews(predictions, targets),
    }
    return values | ({"f1": f1_with_invalid(predictions, targets)} if num_classes == 2 else {})


def accuracy(predictions: Strings, targets: Strings) -> float:
    """Share of equal strings."""
    return float(np.mean([told == wanted for told, wanted in zip(predictions, targets, strict=True)]))


def f1_with_invalid(predictions: Strings, targets: Strings) -> float:
    """F1 of "1"; an output that is neither "0" nor "1" is counted as the wrong one of the two."""
    truth = [target == "1" for target in targets]
    told = [
        prediction == "1" if prediction in ("0", "1") else not wanted
        for prediction, wanted in zip(predictions, truth, strict=True)
    ]
    from sklearn import metrics as sk

    return float(sk.f1_score(truth, told, zero_division=0))


def matthews(predictions: Strings, targets: Strings) -> float:
    """Matthews correlation; outputs that are no label are classes of their own. 0 when all are one class."""
    if len({*predictions, *targets}) < 2:
        return 0.0  # the library warns about a single class and means the same
    from sklearn import metrics as sk

    return float(sk.matthews_corrcoef(targets, predictions))


def pearson(predictions: Strings, targets: Strings) -> float:
    """Pearson correlation of the numbers meant; an output that is no number is -1, an undefined value 0."""
    return _correlation("pearsonr", predictions, targets)


def spearman(predictions: Strings, targets: Strings) -> float:
    """Spearman correlation, with the same rules."""
    return _correlation("spearmanr", predictions, targets)


def macro_f1(predictions: Strings, targets: Strings, num_classes: int) -> float:
    """Mean F1 over the classes "0" to "num_classes - 1", as CB wants it."""
    from sklearn import metrics as sk

    labels = [str(index) for index in range(num_classes)]
    return float(sk.f1_score(targets, predictions, labels=labels, average="macro", zero_division=0))


def squad(predictions: Strings, answers: Sequence[Strings]) -> dict[str, float]:
    """SQuAD's exact match and word F1, each the best over the right `answers` of a row; SQuAD's normal form.

    Rows without any answer count as wrong.
    """
    pairs = list(zip(predictions, answers, strict=True))
    return {
        "exact_match": float(np.mean([_best(_equal, told, right) for told, right in pairs])),
        "f1": float(np.mean([_best(_word_f1, told, right) for told, right in pairs])),
    }


def _correlation(function: str, predictions: Strings, targets: Strings) -> float:
    told, wanted = (np.array([_number(text) for text in texts]) for texts in (predictions, targets))
    value = correlation(function, wanted, told)
    return value if math.isfinite(value) else 0.0


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return _UNPARSEABLE
    return number if math.isfinite(number) else _UNPARSEABLE


def _best(score: Callable[[str, str], float], told: str, answers: Strings) -> float:
    return max((score(_normal(told), _normal(answer)) for answer in answers), default=0.0)


def _normal(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _equal(told: str, wanted: str) -> float:
    return float(told == wanted)


def _word_f1(told: str, wanted: str) -> float:
    """Harmonic mean of precision and recall over words. No library has it; written from its definition."""
    told_words, wanted_words = told.split(), wanted.split()
    common = sum((Counter(told_words) & Counter(wanted_words)).values())
    return 2 * common / (len(told_words) + len(wanted_words)) if common else 0.0


FREE_TEXT = Measures(
    "free_text",
    "f1",
    {
        "f1": lambda answers, texts: squad(texts, answers)["f1"],
        "exact_match": lambda answers, texts: squad(texts, answers)["exact_match"],
    },
)
