"""Which metrics exist, how a data card's prose names them, and their values (by scikit-learn and scipy).

Knows nothing of models: numbers in, numbers out. A value that is not defined (the correlation of a constant)
is NaN here; whoever compares must never call it best.
"""

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import ConfigError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Value = Callable[[Any, Any], float]

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
_BETWEEN_WORDS = r"[\s_-]*"
_QUOTED = re.compile(r"[\"'“]([^\"'”]+)[\"'”]")


@dataclass(frozen=True)
class Measures:
    """The metrics of one kind of task, and the one that decides when nobody says.

    `values` computes each from truth and answers; `meant` says what a name means here that the kind has not.
    """

    kind: str
    default: str
    values: Mapping[str, Value]
    meant: Mapping[str, str] = field(default_factory=dict)


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

    def with_mean(self, values: dict[str, float]) -> dict[str, float]:
        """`values` and, when this is a mean of several of them, that mean. Left out where a part is."""
        if len(self.parts) == 1 or not set(self.parts) <= values.keys():
            return values
        return values | {self.name: float(np.mean([values[part] for part in self.parts]))}


def read_metric(text: str | None, known: Measures, labels: Sequence[str]) -> tuple[Metric, str | None]:
    """The primary metric meant by a card's `metric`, with a note when the text was not understood.

    The metric named first decides; "Pearson and Spearman" means their mean.
    """
    if text is None or not text.strip():
        return Metric(known.default), None
    name = _first_named(text.lower(), known)
    if name is None:
        return Metric(known.default), (
            f"metric {text!r} was not understood for a {known.kind} task; {known.default} is used"
        )
    metric = _with_class(name, text, labels)
    if name == "f1" and metric.name != name:
        return metric, f"metric {text!r} names no class of {len(labels)}; {metric.name} is used"
    return metric, None


def demand_metric(text: str, known: Measures, labels: Sequence[str]) -> Metric:
    """The same for a metric the user asked for: not understood is an error. `a+b` means the mean of both.

    Raises:
        ConfigError: no metric of this kind of task has that name, or errors would be averaged with scores.
    """
    name = text if text in known.values else _first_named(text.lower(), known)
    if name == "f1" and MEAN_OF not in text and _with_class(name, text, labels).name != name:
        raise ConfigError(
            f"metric is {text!r}: of {len(labels)} labels it needs one, in quotes "
            f"('f1 of \"{labels[0]}\"'); or give macro_f1, the mean over all"
        )
    if text in known.values:
        return _with_class(text, text, labels)
    if MEAN_OF in text:
        return mean_metric([demand_metric(part.strip(), known, labels) for part in text.split(MEAN_OF)])
    metric, problem = read_metric(text, known, labels)
    if problem is not None:
        raise ConfigError(f"metric is {text!r}; allowed for a {known.kind} task: {', '.join(known.values)}")
    return metric


def all_metrics(text: str | None, known: Measures, labels: Sequence[str]) -> Metric:
    """The mean of every metric that a card's text names, in its order; the default when it names none."""
    found = _named((text or "").lower(), known)
    names = [name for name in sorted(found, key=lambda name: found[name]) if name in known.values]
    if not names:
        return read_metric(text, known, labels)[0]
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


def positive_class(text: str | None, labels: Sequence[str]) -> int | None:
    """Index of the class whose F1 is shown: named in the card's text, else the second of two classes."""
    quoted = _quoted(text or "", labels)
    if quoted is not None:
        return list(labels).index(quoted)
    return 1 if len(labels) == 2 else None


def single_label_scores(truth: Ints, predicted: Ints, positive: int | None) -> dict[str, float]:
    """Of class indices [N]; `f1` is that of the positive class, where there is one."""
    return {
        name: value(truth == positive, predicted == positive) if name == "f1" else value(truth, predicted)
        for name, value in SINGLE_LABEL.values.items()
        if name != "f1" or positive is not None
    }


def scores_of(known: Measures, truth: Any, predicted: Any) -> dict[str, float]:
    """Every metric of a kind."""
    return {name: value(truth, predicted) for name, value in known.values.items()}


def _first_named(text: str, known: Measures) -> str | None:
    found = _named(text, known)
    if "pearson" in found and "spearman" in found and "pearson_spearman" in known.values:
        return "pearson_spearman"
    usable = {name: at for name, at in found.items() if name in known.values}
    if usable:
        return min(usable, key=lambda name: usable[name])
    return next((instead for name, instead in known.meant.items() if name in found), None)


def _named(text: str, known: Measures) -> dict[str, int]:
    """Where each metric is first named: in prose, or those of this kind that have none by their own name."""
    prose = dict(_PROSE)
    own = {name: rf"\b{name.replace('_', _BETWEEN_WORDS)}\b" for name in known.values if name not in prose}
    found: dict[str, int] = {}
    for name, pattern in (own | prose).items():
        if match := re.search(pattern, text):
            found[name] = match.start()
        if name in own:  # the accuracy of balanced_accuracy is not another metric
            text = re.sub(pattern, lambda whole: " " * len(whole[0]), text)
    return found


def _with_class(name: str, text: str, labels: Sequence[str]) -> Metric:
    if name != "f1" or not labels:  # without labels it is the F1 of words
        return Metric(name)
    quoted = _quoted(text, labels)
    if quoted is not None:
        return Metric("f1", quoted)
    return Metric("f1", labels[1]) if len(labels) == 2 else Metric("macro_f1")


def _quoted(text: str, labels: Sequence[str]) -> str | None:
    return next((word for word in _QUOTED.findall(text) if word in labels), None)


# From counts, not by scikit-learn, whose import alone takes longer than a small run's training; the tests
# compare them with it.


def _f1(truth: Ints, predicted: Ints) -> float:
    """Of what is true; nought without any."""
    hits, marked = int((truth & predicted).sum()), int(truth.sum() + predicted.sum())
    return 2 * hits / marked if marked else 0.0


def _macro_f1(truth: Ints, predicted: Ints) -> float:
    """The mean over the classes that occur in either."""
    counts = _confusion(truth, predicted)
    return float(np.mean(2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))))


def _matthews(truth: Ints, predicted: Ints) -> float:
    """The correlation of several classes (Gorodkin 2004); nought where either has a single one."""
    counts = _confusion(truth, predicted)
    told, true, num_rows = counts.sum(0), counts.sum(1), counts.sum()
    spread = (num_rows**2 - told @ told) * (num_rows**2 - true @ true)
    return float((counts.trace() * num_rows - told @ true) / math.sqrt(spread)) if spread else 0.0


def _confusion(truth: Ints, predicted: Ints) -> Floats:
    """How often each class [C] that occurs was told for each [C, C]: true by row, told by column."""
    classes, index = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    true, told = np.split(index, 2)
    counts = np.bincount(true * len(classes) + told, minlength=len(classes) ** 2)
    return counts.reshape(len(classes), len(classes)).astype(np.float64)


def _f1_over(axis: int | None) -> Value:
    """Of [N, L] of 0 and 1, over all of them (None) or the mean over labels (0).

    From counts, not by the library: a search for a threshold asks for many.
    """

    def value(truth: Ints, predicted: Ints) -> float:
        hits = (truth & predicted).sum(axis=axis)
        wanted_and_told = truth.sum(axis=axis) + predicted.sum(axis=axis)
        return float(np.mean(2 * hits / np.maximum(wanted_and_told, 1)))

    return value


def _exact_match(truth: Ints, predicted: Ints) -> float:
    return float((truth == predicted).all(axis=1).mean())


def correlation(function: str, truth: Floats, predicted: Floats) -> float:
    """By a function of scipy.stats; NaN with a constant."""
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0 or not np.isfinite(predicted).all():
        return math.nan
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(getattr(stats, function)(truth, predicted)[0])


_pearson, _spearman = partial(correlation, "pearsonr"), partial(correlation, "spearmanr")
SINGLE_LABEL = Measures(
    "single_label",
    "accuracy",
    {
        "accuracy": lambda truth, predicted: float(np.mean(truth == predicted)),
        "f1": _f1,
        "macro_f1": _macro_f1,
        "matthews": _matthews,
    },
)
MULTI_LABEL = Measures(
    "multi_label",
    "micro_f1",
    {"micro_f1": _f1_over(None), "macro_f1": _f1_over(0), "exact_match": _exact_match},
    meant={"f1": "micro_f1", "accuracy": "exact_match"},
)
REGRESSION = Measures(
    "regression",
    "pearson_spearman",
    {
        "pearson_spearman": lambda truth, told: (_pearson(truth, told) + _spearman(truth, told)) / 2,
        "pearson": _pearson,
        "spearman": _spearman,
        "mae": lambda truth, told: float(np.abs(truth - told).mean()),
        "rmse": lambda truth, told: float(np.sqrt(np.square(truth - told).mean())),
    },
)
SIMILARITY = Measures(
    "similarity",
    "spearman",
    {name: REGRESSION.values[name] for name in ("spearman", "pearson", "pearson_spearman")},
)
MULTIPLE_CHOICE = Measures("multiple_choice", "accuracy", {"accuracy": SINGLE_LABEL.values["accuracy"]})
