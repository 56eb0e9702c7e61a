"""Which metrics exist, how a data card's prose names them, and their values (by scikit-learn and scipy).

Knows nothing of models: numbers in, numbers out. A value that is not defined (the correlation of a constant)
is NaN here; whoever compares must never call it best.
"""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn import metrics as sk

from training.errors import ConfigError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SINGLE_LABEL = ("accuracy", "f1", "macro_f1", "matthews")
MULTI_LABEL = ("micro_f1", "macro_f1", "exact_match")
REGRESSION = ("pearson_spearman", "pearson", "spearman", "mae", "rmse")
KNOWN: Mapping[str, tuple[str, ...]] = {
    "single_label": SINGLE_LABEL,
    "multi_label": MULTI_LABEL,
    "regression": REGRESSION,
    "multiple_choice": ("accuracy",),
    "free_text": ("f1", "exact_match"),
}
MEAN_OF = "+"
LOWER_IS_BETTER = frozenset({"mae", "rmse"})

_PROSE: tuple[tuple[str, str], ...] = (
    ("macro_f1", r"macro[\s_-]*(averaged[\s_-]*)?f1|f1[\s_-]*macro"),
    ("micro_f1", r"micro[\s_-]*(averaged[\s_-]*)?f1|f1[\s_-]*micro"),
    ("exact_match", r"exact[\s_-]*match|subset[\s_-]*accuracy"),
    ("accuracy", r"(?<!subset )(?<!subset_)(?<!subset-)accuracy|\bacc\b"),
    ("matthews", r"matthews|\bmcc\b"),
    ("pearson", r"pearson"),
    ("spearman", r"spearman"),
    ("mae", r"\bmae\b|mean[\s_-]*absolute"),
    ("rmse", r"\brmse\b|root[\s_-]*mean[\s_-]*square"),
    ("f1", r"(?<!macro )(?<!macro-)(?<!macro_)(?<!micro )(?<!micro-)(?<!micro_)\bf1\b(?![\s_-]*m[ai]cro)"),
)


@dataclass(frozen=True)
class Metric:
    """The number that decides which epoch is best. `positive` is the class of `f1` (two-class tasks).

    A name with `+` is the mean of several: `f1+accuracy`.
    """

    name: str
    positive: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The metrics whose mean this is; itself alone as a rule."""
        return tuple(self.name.split(MEAN_OF))

    @property
    def higher_is_better(self) -> bool:
        """False for errors such as `mae`."""
        return self.name not in LOWER_IS_BETTER

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; a value that is not finite never does, anything finite beats None."""
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value > than if self.higher_is_better else value < than


def read_metric(text: str | None, kind: str, labels: Sequence[str]) -> tuple[Metric, str | None]:
    """The primary metric meant by a card's `metric`, with a note when the text was not understood.

    The metric named first decides; "Pearson and Spearman" means their mean. `kind` is the head's kind.
    """
    if text is None or not text.strip():
        return default_metric(kind, labels), None
    name = _first_named(text.lower(), kind)
    if name is None:
        fallback = default_metric(kind, labels)
        return fallback, f"metric {text!r} was not understood for a {kind} task; {fallback.name} is used"
    metric = _with_class(name, text, labels)
    if name == "f1" and metric.name != name:
        return metric, f"metric {text!r} names no class of {len(labels)}; {metric.name} is used"
    return metric, None


def demand_metric(text: str, kind: str, labels: Sequence[str]) -> Metric:
    """The same for a metric the user asked for: not understood is an error. `a+b` means the mean of both.

    Raises:
        ConfigError: no metric of this kind of task has that name, or errors would be averaged with scores.
    """
    name = text if text in KNOWN[kind] else _first_named(text.lower(), kind)
    if name == "f1" and MEAN_OF not in text and _with_class(name, text, labels).name != name:
        raise ConfigError(
            f"metric is {text!r}: of {len(labels)} labels it needs one, in quotes "
            f"('f1 of \"{labels[0]}\"'); or give macro_f1, the mean over all"
        )
    if text in KNOWN[kind]:
        return _with_class(text, text, labels)
    if MEAN_OF in text:
        return mean_metric([demand_metric(part.strip(), kind, labels) for part in text.split(MEAN_OF)])
    metric, problem = read_metric(text, kind, labels)
    if problem is not None:
        raise ConfigError(f"metric is {text!r}; allowed for a {kind} task: {', '.join(KNOWN[kind])}")
    return metric


def all_metrics(text: str | None, kind: str, labels: Sequence[str]) -> Metric:
    """The mean of every metric that a card's text names, in its order; the default when it names none."""
    found = _named((text or "").lower())
    names = [name for name in sorted(found, key=lambda name: found[name]) if name in KNOWN[kind]]
    if not names:
        return read_metric(text, kind, labels)[0]
    return mean_metric([_with_class(name, text or "", labels) for name in names])


def mean_metric(metrics: Sequence[Metric]) -> Metric:
    """The mean of some metrics as one. Raises ConfigError when higher is better for some of them only."""
    names = list(dict.fromkeys(metric.name for metric in metrics))
    if {"pearson", "spearman"} == set(names):
        return Metric("pearson_spearman")
    if len(names) > 1 and LOWER_IS_BETTER & set(names):
        raise ConfigError(f"metric is {MEAN_OF.join(names)!r}; errors and scores have no common mean")
    positive = next((metric.positive for metric in metrics if metric.positive is not None), None)
    return Metric(MEAN_OF.join(names), positive)


def with_mean(values: dict[str, float], metric: Metric) -> dict[str, float]:
    """`values` and, when `metric` is a mean of several of them, that mean. Left out where a part is."""
    if len(metric.parts) == 1 or not set(metric.parts) <= values.keys():
        return values
    return values | {metric.name: float(np.mean([values[part] for part in metric.parts]))}


def default_metric(kind: str, labels: Sequence[str]) -> Metric:
    """What decides when nobody said: accuracy, micro-F1, or the mean of both correlations."""
    del labels
    decides = {"multi_label": "micro_f1", "regression": "pearson_spearman", "free_text": "f1"}
    return Metric(decides.get(kind, "accuracy"))


def _first_named(text: str, kind: str) -> str | None:
    found = _named(text)
    if "pearson" in found and "spearman" in found and kind == "regression":
        return "pearson_spearman"
    usable = {name: at for name, at in found.items() if name in KNOWN[kind]}
    if not usable and kind == "multi_label" and "f1" in found:
        return "micro_f1"
    if not usable and kind == "multi_label" and "accuracy" in found:
        return "exact_match"
    return min(usable, key=lambda name: usable[name]) if usable else None


def _named(text: str) -> dict[str, int]:
    """Where each metric is first named."""
    return {name: match.start() for name, pattern in _PROSE if (match := re.search(pattern, text))}


def _with_class(name: str, text: str, labels: Sequence[str]) -> Metric:
    if name != "f1" or not labels:  # without labels it is the F1 of words
        return Metric(name)
    quoted = [word for word in re.findall(r"[\"'“]([^\"'”]+)[\"'”]", text) if word in labels]
    if quoted:
        return Metric("f1", quoted[0])
    return Metric("f1", labels[1]) if len(labels) == 2 else Metric("macro_f1")


def positive_class(text: str | None, labels: Sequence[str]) -> int | None:
    """Index of the class whose F1 is shown: named in the card's text, else the second of two classes."""
    quoted = [word for word in re.findall(r"[\"'“]([^\"'”]+)[\"'”]", text or "") if word in labels]
    if quoted:
        return list(labels).index(quoted[0])
    return 1 if len(labels) == 2 else None


def single_label_scores(truth: Ints, predicted: Ints, positive: int | None) -> dict[str, float]:
    """Accuracy, macro-F1, Matthews and, with a positive class, its F1. `truth` and `predicted` are [N]."""
    values = {
        "accuracy": float(sk.accuracy_score(truth, predicted)),
        "macro_f1": float(sk.f1_score(truth, predicted, average="macro", zero_division=0)),
        "matthews": _matthews(truth, predicted),
    }
    if positive is not None:
        values["f1"] = float(sk.f1_score(truth == positive, predicted == positive, zero_division=0))
    return values


def multi_label_scores(truth: Ints, predicted: Ints) -> dict[str, float]:
    """Micro-F1, macro-F1 and the share of rows with exactly the right set. Both are [N, L] of 0 and 1."""
    return {
        "micro_f1": float(sk.f1_score(truth, predicted, average="micro", zero_division=0)),
        "macro_f1": float(sk.f1_score(truth, predicted, average="macro", zero_division=0)),
        "exact_match": float((truth == predicted).all(axis=1).mean()),
    }


def multi_label_value(name: str, truth: Ints, predicted: Ints) -> float:
    """One metric of `multi_label_scores`, from counts: for the many calls of a search for a threshold."""
    if name == "exact_match":
        return float((truth == predicted).all(axis=1).mean())
    axis = None if name == "micro_f1" else 0
    hits = (truth & predicted).sum(axis=axis)
    wanted_and_told = truth.sum(axis=axis) + predicted.sum(axis=axis)
    return float(np.mean(2 * hits / np.maximum(wanted_and_told, 1)))


def regression_scores(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Pearson, Spearman, their mean, and errors in the data's unit. Correlations with a constant are NaN."""
    pearson, spearman = _correlations(truth, predicted)
    return {
        "pearson": pearson,
        "spearman": spearman,
        "pearson_spearman": (pearson + spearman) / 2,
        "mae": float(np.abs(truth - predicted).mean()),
        "rmse": float(np.sqrt(np.square(truth - predicted).mean())),
    }


def _matthews(truth: Ints, predicted: Ints) -> float:
    if len(np.unique(np.concatenate([truth, predicted]))) < 2:
        return 0.0  # the library warns about a single class and means the same
    return float(sk.matthews_corrcoef(truth, predicted))


def _correlations(truth: Floats, predicted: Floats) -> tuple[float, float]:
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0 or not np.isfinite(predicted).all():
        return math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(stats.pearsonr(truth, predicted)[0]), float(stats.spearmanr(truth, predicted)[0])
