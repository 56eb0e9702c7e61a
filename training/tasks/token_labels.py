"""Entities in a text: tokens with tags, or spans by character; what is learnt are the tags of its words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.errors import DataError
from training.metrics.calibration import Floats
from training.metrics.paired import Ints, Score
from training.metrics.scores import Metric
from training.metrics.spans import SPANS, Count, Spans, counts_of, scores_of_counts, span_scores
from training.rows.canonical import Occurrence, TargetError
from training.rows.examples import Span, Split, Target, WordSpans
from training.rows.labels import Labels, one_label
from training.rows.marked import SPAN_FIELDS, TAG_FIELDS, TOKEN_FIELDS, marked
from training.rows.tables import Table
from training.rows.tags import OUTSIDE, is_tag, label_of
from training.tasks.base import Baseline, DataKinds, Logits, Task, register
from training.tasks.judged import Judged, LabelScore

if TYPE_CHECKING:
    import torch

    from modeling import Backbone, HeadSpec

_UNKNOWN = -100  # of a place where a row has no word
_MAX_LABEL_CHARACTERS = 198  # with B- or I- in front, what a file takes


@register
@dataclass(frozen=True)
class TokenLabels(Task):
    """`labels` are the tags O, B-X, I-X, ... of the labels X in `entities`; a target is `WordSpans`."""

    entities: tuple[str, ...] = ()

    kind = "token_labels"
    data_kinds: ClassVar[DataKinds] = {"token_labels": (1,)}
    measures = SPANS
    least_names = 1
    reads_words = True
    usual_texts = (*TOKEN_FIELDS, *Task.usual_texts)
    usual_labels = (*TAG_FIELDS, *SPAN_FIELDS, *Task.usual_labels)

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        tags = (
            OUTSIDE,
            *(mark + name for name in names for mark in ("B-", "I-")),
        )  # as modeling.kinds checks
        return cls(tags, metric, names)

    @classmethod
    def in_text(cls) -> None:
        """A target is one string."""
        return

    @classmethod
    def prepared(
        cls, tables: Mapping[str, Table], texts: Sequence[str], label: str, names: Sequence[str] | None
    ) -> tuple[dict[str, Table], list[str]]:
        return marked(tables, texts[0], label, names)

    @classmethod
    def names_of(cls, spec: "HeadSpec") -> tuple[str, ...]:
        return tuple(tag.removeprefix("B-") for tag in spec.labels[1::2])

    @classmethod
    def read_labels(
        cls, found: Sequence[Occurrence], names: Sequence[str] | None, field: str, *, places: bool = True
    ) -> tuple[Labels, list[str]]:
        """Of the labels of spans; `names` may be those of tags. Raises DataError."""
        marks = [
            replace(one, value=mark.label)
            for one in found
            if isinstance(one.value, tuple)
            for mark in one.value
        ]
        labels, told = one_label(marks, _without_marks(names), places=False)
        longest = max(labels.names, key=len, default="")
        if len(longest) > _MAX_LABEL_CHARACTERS:
            raise DataError(
                f"field {field!r}: the label {longest[:60]!r} has {len(longest)} characters; the label of a "
                f"span has at most {_MAX_LABEL_CHARACTERS}: shorten it"
            )
        return labels, told

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.entities

    def parse(self, value: Any, labels: Labels) -> WordSpans:
        """Marks as `prepared` leaves them; none is an empty list."""
        if isinstance(value, TargetError):
            raise value
        if value is None:
            raise TargetError("null", "every row needs its spans or tags: [] where there are none")
        return WordSpans(tuple(Span(start, end, labels.index(label)) for start, end, label in value))

    def strata(self, targets: Sequence[Target], fraction: float = 0.1) -> list[tuple[int, ...]]:
        """The labels of each row, each once."""
        return [tuple(sorted({span.label for span in _of(target).spans})) for target in targets]

    def poolings(self, backbone: "Backbone") -> tuple[str, ...]:
        """A word's first token, on every backbone."""
        return ("first",)

    def aligned(self, backbone: "Backbone", split: Split) -> Split:
        """With the words that this backbone's tokenizer makes of each text."""
        texts = [str(text) for text in split.texts]
        words = [
            tuple((word.start, word.end) for word in tokens.words)
            for tokens in backbone.text.tokenize(texts, words=True)
        ]
        rows = zip(split.examples, words, strict=True)
        return replace(
            split,
            examples=tuple(replace(row, target=replace(_of(row.target), words=own)) for row, own in rows),
        )

    def doubts(self, split: Split) -> list[str]:
        """Spans that begin or end within a word: no answer can be exactly one of these."""
        rows = [
            row
            for row in split.examples
            if any(not _has_ends(_of(row.target), span) for span in _of(row.target).spans)
        ]
        if not rows:
            return []
        return [
            f"{len(rows)} of {len(split)} {split.name} rows have spans that begin or end within a word (row "
            f"{rows[0].row}): answers are whole words, so these are never answered exactly"
        ]

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Int64 [N, W]: the tag of each word, -100 behind the last."""
        import torch

        width = max((len(_of(target).words) for target in targets), default=0)
        tags = torch.full((len(targets), width), _UNKNOWN, dtype=torch.int64)
        for row, target in enumerate(targets):
            own = _tags(_of(target), _of(target).spans)
            tags[row, : len(own)] = torch.tensor(own, dtype=torch.int64)
        return tags

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """Of spans by their characters, and of words by their tags; NaN when a row's logits are not finite.

        A word that was cut has no answer: what stands there is missed.
        """
        values = self._scores(self._spans_in(logits, targets), targets)
        return values if _is_sound(logits, targets) else dict.fromkeys(values, float("nan"))

    def scorer(self, logits: Logits, targets: Sequence[Target]) -> Score:
        """Of counts by row: entities are looked for once."""
        if not _is_sound(logits, targets):
            return super().scorer(logits, targets)
        rows = list(zip(self._spans_in(logits, targets), targets, strict=True))
        spans = np.array([self._counted(own, target) for own, target in rows])  # [N, K, 3]
        words = np.array([_same_words(own, target) for own, target in rows])  # [N, 2]

        def score(chosen: Ints) -> float:
            counts = {
                name: Count(*found)
                for name, found in zip(self.entities, spans[chosen].sum(axis=0).tolist(), strict=True)
                if any(found)
            }
            same, total = words[chosen].sum(axis=0).tolist()
            values = scores_of_counts(counts) | {"token_accuracy": same / max(1, total)}
            return self.metric.with_mean(values)[self.metric.name]

        return score

    def _counted(self, found: Sequence[Span], target: Target) -> list[tuple[int, int, int]]:
        """Of one row, by label: spans that are right, that were told, and that are both."""
        told = [(start, end, self.entities[label]) for start, end, label in found]
        counts = counts_of(self._named([target]), [told])
        found_of = (counts.get(name, Count()) for name in self.entities)
        return [(one.right, one.told, one.both) for one in found_of]

    def _spans_in(self, logits: Logits, targets: Sequence[Target]) -> list[list[Span]]:
        return [
            [Span(start, end, self.entities.index(label)) for start, end, label in row]
            for row in self.found_in(logits, targets)
        ]

    def found_in(self, logits: Logits, targets: Sequence[Target]) -> list[list[tuple[int, int, str]]]:
        """Start, end and label of what is answered to each row."""
        from modeling import kind_of

        spec = self.spec("first")
        words = [_of(target).words for target in targets]
        answers = kind_of(spec).decide(spec, logits.astype(np.float64), None, words)
        return [[one[:3] for one in answer.entities or ()] for answer in answers]

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """No entity in any row."""
        return Baseline("no entity", self._scores([()] * len(targets), targets))

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        """Entities as labels and places; a row loses what its F1 lacks, a label what its rows lose."""
        wanted, told = self._named(targets), self.found_in(logits, targets)
        losses = [
            1 - 2 * len({*one} & {*other}) / max(1, len(one) + len(other)) if {*one} != {*other} else 0.0
            for one, other in zip(wanted, told, strict=True)
        ]
        counts = counts_of(wanted, told)
        rows = ((name, counts.get(name, Count())) for name in self.entities)
        has = {name: [any(one[2] == name for one in row) for row in wanted] for name in self.entities}
        lost = {name: _mean(loss for loss, own in zip(losses, has[name], strict=True) if own) for name in has}
        return Judged(
            (),
            [_placed(row) for row in wanted],
            [_placed(row) for row in told],
            np.array(losses, dtype=np.float64),
            np.array(losses) == 0,
            sure=_sure(logits, len(self.labels)),
            by_label=[
                LabelScore(name, one.right, one.told, one.precision, one.recall, one.f1, lost[name])
                for name, one in rows
            ],
        )

    def spec(self, pooling: str) -> "HeadSpec":
        from modeling import HeadSpec

        return HeadSpec(self.kind, self.labels, "first")

    def answers(self, logits: Logits) -> list[Any]:
        raise TypeError("an answer is made of a text's words, which logits do not tell: this is a bug")

    def told(self, target: Target) -> list[dict[str, Any]]:
        spans = _of(target).spans
        return [{"start": one.start, "end": one.end, "label": self.entities[one.label]} for one in spans]

    def constant_warning(self, logits: Logits) -> str | None:
        """No entity anywhere."""
        from modeling import kind_of

        spec = self.spec("first")
        lengths = (~np.isnan(logits)).sum(axis=1) // len(self.labels)
        words = [[(place, place + 1) for place in range(length)] for length in lengths.tolist()]
        answers = kind_of(spec).decide(spec, logits.astype(np.float64), None, words)
        if len(logits) < 2 or any(answer.entities for answer in answers):
            return None
        return "no validation row is answered with an entity: give more epochs or a higher --lr"

    def _scores(self, found: Sequence[Sequence[Span]], targets: Sequence[Target]) -> dict[str, float]:
        told = [[(start, end, self.entities[label]) for start, end, label in row] for row in found]
        words = [_same_words(own, target) for target, own in zip(targets, found, strict=True)]
        same, total = (sum(column) for column in zip((0, 0), *words, strict=True))
        values = span_scores(self._named(targets), told)
        return self.metric.with_mean(values | {"token_accuracy": same / max(1, total)})

    def _named(self, targets: Sequence[Target]) -> Spans:
        return [
            [(start, end, self.entities[label]) for start, end, label in _of(target).spans]
            for target in targets
        ]


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _sure(logits: Logits, num_labels: int) -> Floats:
    """How likely the best label of a word is, as the geometric mean over the words of each row [N]."""
    words = logits.astype(np.float64).reshape(len(logits), -1, num_labels)
    there = ~np.isnan(words[:, :, 0])
    words = np.where(there[:, :, None], words, 0.0)
    best = words.max(axis=2) - np.logaddexp.reduce(words, axis=2)  # log p [N, W]
    return np.asarray(np.exp((best * there).sum(axis=1) / there.sum(axis=1).clip(min=1)))


def _placed(spans: Sequence[tuple[int, int, str]]) -> list[str]:
    """Label and place of each, in the order of the text."""
    return [f"{label} {start}–{end}" for start, end, label in sorted(spans)]


def _without_marks(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Labels of spans: as they are, or those that the names of tags are made of."""
    if names is None:
        return None
    inner = [name for name in names if name != OUTSIDE]
    are_tags = all(map(is_tag, inner)) and (len(inner) < len(names) or any(n.startswith("I-") for n in inner))
    return tuple(dict.fromkeys(map(label_of, inner) if are_tags else inner))


def _has_ends(target: WordSpans, span: Span) -> bool:
    return span.start in {start for start, _ in target.words} and span.end in {end for _, end in target.words}


def _tags(target: WordSpans, spans: Sequence[Span]) -> list[int]:
    """The tag of each word: of the first span in the order of the text that has a character of it."""
    tags = [0] * len(target.words)
    for span in spans:
        inside = False
        for place, (start, end) in enumerate(target.words):
            if start < span.end and end > span.start and not tags[place]:
                tags[place] = 2 * span.label + (2 if inside else 1)
                inside = True
    return tags


def _same_words(found: Sequence[Span], target: Target) -> tuple[int, int]:
    """How many words have the right tag, of how many."""
    right, told = _tags(_of(target), _of(target).spans), _tags(_of(target), found)
    return sum(one == other for one, other in zip(right, told, strict=True)), len(right)


def _is_sound(logits: Logits, targets: Sequence[Target]) -> bool:
    """Whether every text with words has finite logits."""
    first = logits[:, 0] if logits.shape[1] else np.zeros(len(logits))
    read = [bool(_of(target).words) for target in targets]
    return bool(np.isfinite(first[read]).all() and not np.isinf(logits).any())


def _of(target: Target) -> WordSpans:
    if not isinstance(target, WordSpans):
        raise TypeError(f"the target of a text with entities is its spans, got {target!r}: this is a bug")
    return target
