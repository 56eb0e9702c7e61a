"""Answers that are any text, written by a decoder: ReCoRD, SQuAD and their like.

A target is the right answers of a row, any of which will do. What is measured is the text that greedy
generation writes, as SQuAD does: exact match and word F1, each the best over the right answers.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.formats.rewriting import spaced_punctuation
from training.metrics import Metric, with_mean
from training.tasks.base import Baseline, Logits, Target, TargetError, Task
from training.text_metrics import squad

_SCORES = ("exact_match", "f1")


@dataclass(frozen=True)
class FreeText:
    """`max_new_tokens` is the longest answer that is written; known once a tokenizer has seen the answers.

    In place of logits [N, L] stand the scores of each row's text [N, 2], exact match and word F1. `unknown`
    is what is learnt for a row without a right answer; without it such a row is refused. Each of several
    right answers is learnt in an example of its own (ReCoRD); `as_squad`: the first alone, with spaces
    around its punctuation.
    """

    metric: Metric
    max_new_tokens: int | None = None
    unknown: str | None = None
    as_squad: bool = False
    labels: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    kind: str = "text_to_text"
    threshold: float | None = None
    value_range: tuple[float, float] | None = None

    def parse(self, value: Any) -> tuple[str, ...]:
        """A text, a list of right ones, or SQuAD's object with such a list as `text`; each once."""
        listed = value.get("text") if isinstance(value, dict) else value
        texts = [listed] if isinstance(listed, str) else listed
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TargetError(f"{value!r}"[:120], "an answer is a text, or a list of right ones")
        if any(not text.strip() for text in texts) or not (texts or self.unknown):
            raise TargetError(f"{value!r}"[:120], "an answer has characters: fill it in or remove the row")
        return tuple(dict.fromkeys(texts))

    @property
    def longest(self) -> int:
        """`max_new_tokens`, which a run has settled before it asks."""
        if self.max_new_tokens is None:
            raise TypeError("nobody said how long an answer may be: this is a bug")
        return self.max_new_tokens

    def learnt(self, target: Target) -> list[Target]:
        """The targets of the train examples that a row becomes, one answer each."""
        answers = _answers(target)
        if self.as_squad:
            return [(spaced_punctuation(answers[0]),)]
        return [(answer,) for answer in answers or (self.unknown or "",)]

    def strings(self, targets: Sequence[Target]) -> list[str]:
        """The first right answer of each row, or what stands for none."""
        return [(_answers(target) or (self.unknown or "",))[0] for target in targets]

    def stratum(self, target: Target) -> Hashable:
        """Rows are all alike."""
        del target
        return 0

    def stack(self, targets: Sequence[Target]) -> torch.Tensor:
        """Int64 [N] of zeros: the loss is that of the strings' tokens."""
        return torch.zeros(len(targets), dtype=torch.int64)

    def row_scores(self, texts: Sequence[str], targets: Sequence[Target]) -> Logits:
        """What each row's text [N] scores [N, 2]."""
        rows = [squad([text], [_answers(target)]) for text, target in zip(texts, targets, strict=True)]
        scores: Logits = np.array([[row[name] for name in _SCORES] for row in rows], dtype=np.float32)
        return scores.reshape(-1, len(_SCORES))

    def fitted(self, targets: Sequence[Target]) -> Task:
        """Nothing to learn from the train targets."""
        del targets
        return self

    def calibrated(self, logits: Logits, targets: Sequence[Target]) -> Task:
        """Nothing is chosen on validation."""
        del logits, targets
        return self

    def scores(self, logits: Logits, targets: Sequence[Target]) -> dict[str, float]:
        """The means of the rows' scores [N, 2], and their mean when that decides."""
        del targets
        means = logits.astype(np.float64).mean(axis=0).tolist()
        return with_mean(dict(zip(_SCORES, means, strict=True)), self.metric)

    def baseline(self, train: Sequence[Target], targets: Sequence[Target]) -> Baseline:
        """The commonest answer of the train rows, for every row."""
        common = Counter(self.strings(train)).most_common(1)[0][0]
        found = self.row_scores([common] * len(targets), targets)
        return Baseline(f"commonest ({common[:40]})", self.scores(found, targets))

    def to_units(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """There is no head."""
        raise TypeError("a text-to-text task has no head: this is a bug")

    def answers(self, logits: Logits) -> list[Any]:
        """Scores do not tell the texts."""
        raise TypeError("the answers of a free-text task are its texts: this is a bug")

    def constant_warning(self, logits: Logits) -> str | None:
        """No right word in any row."""
        if len(logits) < 2 or logits.any():
            return None
        return "no validation row's text has a word of a right answer: give more epochs or a higher --lr"


def _answers(target: Target) -> tuple[str, ...]:
    if not isinstance(target, tuple):
        raise TypeError(f"a free-text target is a tuple of answers, got {target!r}: this is a bug")
    return tuple(map(str, target))
