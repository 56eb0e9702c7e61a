"""Answers that are any text, written by a decoder: ReCoRD, SQuAD and their like.

A target is the right answers of a row, any of which will do. What is measured is the text that greedy
generation writes, as SQuAD does: exact match and word F1, each the best over the right answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from training.errors import ConfigError
from training.formats import FORMATS, Formatter
from training.formats.rewriting import spaced_punctuation
from training.metrics.scores import Floats, Metric
from training.metrics.texts import FREE_TEXT, squad
from training.rows.canonical import Occurrence, TargetError
from training.rows.examples import Split, Target
from training.rows.items import WHOLE, half_character
from training.rows.labels import Labels
from training.tasks.base import DECODER_KIND, Baseline, DataKinds, Logits, Task, commonest, register
from training.tasks.judged import Judged

if TYPE_CHECKING:
    import torch

    from modeling import Backbone, HeadSpec
    from training.metrics.ranking import Embedded

_SCORES = ("exact_match", "f1")


@register
@dataclass(frozen=True)
class FreeText(Task):
    """`max_new_tokens` is the longest answer that is written; known once a tokenizer has seen the answers.

    In place of logits [N, L] stand the scores of each row's text [N, 2], exact match and word F1. `unknown`
    is what is learnt for a row without a right answer; without it such a row is refused. Each of several
    right answers is learnt in an example of its own (ReCoRD); `as_squad`: the first alone, with spaces
    around its punctuation.
    """

    max_new_tokens: int | None = None
    unknown: str | None = None
    as_squad: bool = False

    kind = DECODER_KIND
    data_kinds: ClassVar[DataKinds] = {"free_text": ()}
    measures = FREE_TEXT
    least_names = 0
    writes = True
    usual_labels = (*Task.usual_labels, "answers", "answer", "target")

    @classmethod
    def build(
        cls, names: tuple[str, ...], metric: Metric, text: str | None, spec: "HeadSpec | None" = None
    ) -> Self:
        return cls((), metric, None if spec is None else spec.max_new_tokens)

    @classmethod
    def read_labels(
        cls, found: Sequence[Occurrence], names: Sequence[str] | None, field: str, *, places: bool = True
    ) -> tuple[Labels, list[str]]:
        """There are none: an answer is any text."""
        return Labels((), {}), []

    def parse(self, value: Any, labels: Labels) -> tuple[str, ...]:
        """A text, a list of right ones, or SQuAD's object with such a list as `text`; each once."""
        listed = value.get("text") if isinstance(value, dict) else value
        texts = [listed] if isinstance(listed, str) else listed
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TargetError(f"{value!r}"[:120], "an answer is a text, or a list of right ones")
        if any(not text.strip() for text in texts) or not (texts or self.unknown):
            raise TargetError(f"{value!r}"[:120], "an answer has characters: fill it in or remove the row")
        if half := next(filter(None, map(half_character, texts)), None):
            raise TargetError(half, WHOLE)
        return tuple(dict.fromkeys(texts))

    def as_text(self, formatter: Formatter) -> Task:
        """With the rules of its official format, where it has one."""
        official = FORMATS.get(formatter.name)
        if official is None:
            return self
        return replace(self, unknown=official.unknown, as_squad=official.name == "squad")

    def learnt(self, target: Target) -> list[Target]:
        """One answer each."""
        answers = _answers(target)
        if self.as_squad:
            return [(spaced_punctuation(answers[0]),)]
        return [(answer,) for answer in answers or (self.unknown or "",)]

    def strings(self, targets: Sequence[Target]) -> list[str]:
        """The first right answer of each row, or what stands for none."""
        return [(_answers(target) or (self.unknown or "",))[0] for target in targets]

    def stack(self, targets: Sequence[Target]) -> "torch.Tensor":
        """Int64 [N] of zeros: each row has one string."""
        import torch

        return torch.zeros(len(targets), dtype=torch.int64)

    def sized(self, backbone: "Backbone", splits: Sequence[Split]) -> Task:
        """As long as the longest answer of the first split. Raises ConfigError for one without positions."""
        if not backbone.is_encoder_decoder:
            return self  # refused later, with the form
        longest = []
        for split in splits:
            lengths = [len(ids) for ids in backbone.label_ids(self.strings(split.targets))]
            longest.append(max(lengths))
            if longest[-1] > backbone.max_tokens:
                row = split.examples[lengths.index(longest[-1])].row
                raise ConfigError(
                    f"the answer of {split.name} row {row} has {longest[-1]} tokens; {backbone.name} has "
                    f"{backbone.max_tokens} positions: shorten or remove it"
                )
        return replace(self, max_new_tokens=longest[0])

    def found(
        self,
        logits: Logits,
        texts: Sequence[str] | None,
        targets: Sequence[Target],
        embedded: "Embedded | None" = None,
    ) -> Logits:
        """What each row's text [N] scores [N, 2]."""
        if texts is None:
            raise TypeError("nobody has written the answers: this is a bug")
        rows = [squad([text], [_answers(target)]) for text, target in zip(texts, targets, strict=True)]
        scores: Logits = np.array([[row[name] for name in _SCORES] for row in rows], dtype=np.float32)
        return scores.reshape(-1, len(_SCORES))

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """The means of the rows' scores [N, 2], and their mean when that decides."""
        means = logits.astype(np.float64).mean(axis=0).tolist()
        return self.metric.with_mean(dict(zip(_SCORES, means, strict=True)))

    def row_values(self, logits: Logits, targets: Sequence[Target]) -> Floats:
        """Both scores are means, and so is their mean."""
        places = [_SCORES.index(part) for part in self.metric.parts]
        values: Floats = logits.astype(np.float64)[:, places].mean(axis=1)
        return values

    def judged(self, spec: "HeadSpec", logits: Logits, targets: Sequence[Target]) -> Judged:
        """Right is what equals a right answer; the loss is the share of words that are not its. What was
        written is not in `logits`, the rows' scores.
        """
        f1 = logits.astype(np.float64)[:, _SCORES.index("f1")]
        told = [f"word F1 {value:.2f}" for value in f1.tolist()]
        right = logits[:, _SCORES.index("exact_match")] == 1
        return Judged((), [self.told(target) for target in targets], told, 1 - f1, right)

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest answer of the train rows, for every row."""
        common = commonest(self.strings(train))
        found = self.found(np.empty(0, np.float32), [common] * len(targets), targets)
        return Baseline(f"commonest ({common[:40]})", self.scores(found, targets))

    def spec(self, pooling: str) -> "HeadSpec":
        from modeling import HeadSpec

        return HeadSpec(self.kind, (), pooling, max_new_tokens=self.max_new_tokens)

    def answers(self, logits: Logits) -> list[Any]:
        raise TypeError("the answers of a free-text task are its texts: this is a bug")

    def told(self, target: Target) -> list[str]:
        return list(_answers(target))

    def constant_warning(self, logits: Logits) -> str | None:
        """No right word in any row."""
        if len(logits) < 2 or logits.any():
            return None
        return "no validation row's text has a word of a right answer: give more epochs or a higher --lr"


def _answers(target: Target) -> tuple[str, ...]:
    if not isinstance(target, tuple):
        raise TypeError(f"a free-text target is a tuple of answers, got {target!r}: this is a bug")
    return tuple(map(str, target))
