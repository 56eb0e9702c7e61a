"""How well spans were found: the strict measure of CoNLL and SemEval, by the library nervaluate.

A span counts as found where start, end and label are all right (Tjong Kim Sang and De Meulder 2003).
Precision, recall and F1 are over all spans; macro F1 is the mean over the labels that are right or told
somewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.metrics.scores import Measures, Value

Span = tuple[int, int, str]
"""Start, end (the place behind the last character) and label."""
Spans = Sequence[Sequence[Span]]


@dataclass
class Count:
    """Of one label: spans that are right, that were told, and that are both."""

    right: int = 0
    told: int = 0
    both: int = 0

    @property
    def precision(self) -> float:
        return self.both / self.told if self.told else 0.0

    @property
    def recall(self) -> float:
        return self.both / self.right if self.right else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.both / (self.right + self.told) if self.right + self.told else 0.0


def counts_of(truth: Spans, told: Spans) -> dict[str, Count]:
    """By label, of the spans of each row."""
    from nervaluate.entities import Entity
    from nervaluate.strategies import StrictEvaluation

    def entities(spans: Iterable[Span], label: str) -> list[Entity]:
        return [Entity(name, start, end - 1) for start, end, name in spans if name == label]  # ends included

    strict = StrictEvaluation()
    counts: dict[str, Count] = {}
    for right, found in zip(truth, told, strict=True):
        for label in sorted({span[2] for span in (*right, *found)}):
            result, _ = strict.evaluate(entities(right, label), entities(found, label), [label])
            count = counts.setdefault(label, Count())
            count.both += result.correct
            count.told += result.correct + result.incorrect + result.spurious
            count.right += result.correct + result.incorrect + result.missed
    return counts


def over_all(counts: Iterable[Count]) -> Count:
    """Of all labels together."""
    total = Count()
    for count in counts:
        total.right, total.told, total.both = (
            total.right + count.right,
            total.told + count.told,
            total.both + count.both,
        )
    return total


def span_scores(truth: Spans, told: Spans) -> dict[str, float]:
    """Everything that is measured of spans."""
    return scores_of_counts(counts_of(truth, told))


def scores_of_counts(counts: Mapping[str, Count]) -> dict[str, float]:
    """The same of labels that are counted; all of them are right or told somewhere."""
    total = over_all(counts.values())
    return {
        "span_f1": total.f1,
        "precision": total.precision,
        "recall": total.recall,
        "macro_f1": sum(count.f1 for count in counts.values()) / max(1, len(counts)),
    }


def _one(name: str) -> Value:
    return lambda truth, told: span_scores(truth, told)[name]


SPANS = Measures(
    "token_labels",
    "span_f1",
    {name: _one(name) for name in ("span_f1", "precision", "recall", "macro_f1")}
    | {
        "token_accuracy": lambda truth, told: (
            sum(a == b for a, b in zip(truth, told, strict=True)) / max(1, len(truth))
        )
    },
    meant={"f1": "span_f1", "micro_f1": "span_f1", "accuracy": "token_accuracy"},
)
