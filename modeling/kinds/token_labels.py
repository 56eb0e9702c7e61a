"""token_labels: entities in a text; every word has a tag, and tags that can follow each other are entities.

The tags of the labels X, Y, ... are O, B-X, I-X, B-Y, I-Y, ...: O is outside, B- begins an entity, and I-
goes on with one of the same label. The softmax of each word's logits over these gives, with the impossible
sequences (I-X behind anything but B-X and I-X) left out and the rest scaled to one, a distribution over
sequences of tags: a linear chain with fixed transitions (Lafferty et al. 2001, Conditional Random Fields).
The answer is its most probable sequence (Viterbi), so never an impossible one; the score of an entity is the
probability that exactly it stands there (forward-backward), that of the answer the probability of the whole
sequence.

N rows, W words of the longest, L = 2K + 1 tags of K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import cross_entropy

from failures import Failure

from .base import KINDS, Answer, Choices, Entity, Floats, HeadSpec, Kind, refused

OUTSIDE, BEGIN, INSIDE = "O", "B-", "I-"
Ints = npt.NDArray[np.int64]
_ROWS = 256  # decided at once


def tags_of(labels: Sequence[str]) -> tuple[str, ...]:
    """The head's labels, in their order, for the labels of entities."""
    return (OUTSIDE, *(mark + label for label in labels for mark in (BEGIN, INSIDE)))


def labels_of(tags: Sequence[str]) -> tuple[str, ...]:
    """The labels of entities that these tags are made of."""
    return tuple(tag.removeprefix(BEGIN) for tag in tags[1::2])


class TokenLabels(Kind):
    """A row's logits are flat: L of each word, NaN behind the last. `choices` are the words: (start, end)."""

    name = "token_labels"
    readout = "words"

    def decide(
        self, spec: HeadSpec, logits: Floats, top_k: int | None = None, choices: Choices = ()
    ) -> list[Answer]:
        lengths = list(map(len, choices))
        answers: dict[int, Answer] = {}
        order = sorted(range(len(lengths)), key=lengths.__getitem__)  # so that little is padded
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            width = lengths[rows[-1]] * len(spec.labels)
            found = self._decide(spec, logits[rows, :width], [choices[row] for row in rows])
            answers |= zip(rows, found, strict=True)
        return [answers[row] for row in range(len(lengths))]

    def _decide(self, spec: HeadSpec, logits: Floats, choices: Choices) -> list[Answer]:
        num_tags, labels = len(spec.labels), labels_of(spec.labels)
        words = logits.reshape(len(logits), logits.shape[1] // num_tags, num_tags)
        chain = _Chain.of(words, list(map(len, choices)))
        tags, scores = chain.best()
        rows = enumerate(zip(tags.tolist(), scores.tolist(), choices, strict=True))
        return [
            _answer(score, list(chain.entities(row, own, labels, places)))
            for row, (own, score, places) in rows
        ]

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """logits [M, L] and targets [M] of words, of which there may be none; weights are not used."""
        return cross_entropy(logits, targets, reduction="sum") / max(1, len(targets))

    def check(self, spec: HeadSpec) -> list[Failure]:
        labels = labels_of(spec.labels)
        failures = self.check_options(spec)
        if not labels or len(set(labels)) < len(labels) or spec.labels != tags_of(labels):
            allowed = "O, then B-X and I-X of each label X, every label once"
            failures.append(refused("labels", list(spec.labels), allowed))
        return failures


def _answer(score: float, entities: list[Entity]) -> Answer:
    return Answer(list(dict.fromkeys(one.label for one in entities)), score, {}, None, entities)


@dataclass(frozen=True, eq=False)
class _Chain:
    """Log probabilities [N, W, L] of each word's tags; a word that is not there is O for certain."""

    words: Floats

    @classmethod
    def of(cls, logits: Floats, counts: Sequence[int]) -> _Chain:
        """Of logits [N, W, L]; words behind the row's own number, or without logits, are not there."""
        there = np.arange(logits.shape[1]) < np.array(counts, dtype=np.int64)[:, None]
        there &= ~np.isnan(logits).any(axis=2)
        plain = np.where(there[..., None], logits, 0.0)
        lower = plain - plain.max(axis=2, keepdims=True)
        logs = lower - np.log(np.exp(lower).sum(axis=2, keepdims=True))
        outside = np.where(np.arange(logits.shape[2]) == 0, 0.0, -np.inf)
        return cls(np.where(there[..., None], logs, outside))

    def best(self) -> tuple[Ints, Floats]:
        """The most probable possible sequences of tags [N, W], and their probabilities [N]."""
        num_rows, num_words, num_tags = self.words.shape
        before = np.zeros((num_rows, num_words), dtype=np.int64)  # the best tag in front of O and B-
        longer = np.zeros((num_rows, num_words, num_tags // 2), dtype=np.int64)  # 1: I- in front of I-, 0: B-
        value = np.full((num_rows, num_tags), -np.inf)
        value[:, 0] = 0.0  # in front of the first word is O
        for place in range(num_words):
            before[:, place] = value.argmax(axis=1)
            longer[:, place] = value[:, 2::2] > value[:, 1::2]
            inside = np.maximum(value[:, 1::2], value[:, 2::2])
            value = self._after(place, value.max(axis=1), inside)
        tags = np.zeros((num_rows, num_words), dtype=np.int64)
        rows, tag = np.arange(num_rows), value.argmax(axis=1)
        for place in reversed(range(num_words)):
            tags[:, place] = tag
            label = np.maximum(tag - 1, 0) // 2
            goes_on = (tag > 0) & (tag % 2 == 0)
            tag = np.where(goes_on, tag - 1 + longer[rows, place, label], before[:, place])
        return tags, np.exp(value.max(axis=1) - self._before[:, -1])

    def entities(
        self, row: int, tags: Sequence[int], labels: Sequence[str], words: Sequence[tuple[int, int]]
    ) -> Iterator[Entity]:
        """What the tags of a row mean, in characters of its text."""
        num_words = min(len(words), len(tags))  # words that were cut may have no logits
        for first in range(num_words):
            if tags[first] % 2 == 0:
                continue
            last, inside = first, tags[first] + 1
            while last + 1 < num_words and tags[last + 1] == inside:
                last += 1
            label = labels[tags[first] // 2]
            yield Entity(words[first][0], words[last][1], label, self._probability(row, first, last, inside))

    def _probability(self, row: int, first: int, last: int, inside: int) -> float:
        """That an entity stands at exactly these words of a row, whatever is beside it."""
        own = self.words[row, first, inside - 1] + self.words[row, first + 1 : last + 1, inside].sum()
        beside = self._before[row, first] + self._behind[row, last + 1] - self._before[row, -1]
        return float(min(1.0, np.exp(own + beside)))

    def _after(self, place: int, outside: Floats, inside: Floats) -> Floats:
        """Log weights [N, L] of a word's tags: `outside` [N] of what O and B- follow, `inside` [N, K] I-."""
        found = self.words[:, place] + outside[:, None]
        found[:, 2::2] = self.words[:, place, 2::2] + inside
        return found

    @cached_property
    def _before(self) -> Floats:
        """Log weight of all possible sequences of the words in front of each [N, W + 1]; the last: of all."""
        num_rows, num_words, num_tags = self.words.shape
        total = np.zeros((num_rows, num_words + 1))
        inside = np.full((num_rows, num_tags // 2), -np.inf)
        for place in range(num_words):
            found = self._after(place, total[:, place], inside)
            total[:, place + 1] = np.logaddexp.reduce(found, axis=1)
            inside = np.logaddexp(found[:, 1::2], found[:, 2::2])
        return total

    @cached_property
    def _behind(self) -> Floats:
        """Log weight of all possible sequences from each word on that do not begin with I- [N, W + 1]."""
        num_rows, num_words, num_tags = self.words.shape
        total = np.zeros((num_rows, num_words + 1))
        inside = np.zeros((num_rows, num_tags // 2))  # of those behind a word of each label
        for place in reversed(range(num_words)):
            own = self.words[:, place]
            begun = np.column_stack([own[:, 0] + total[:, place + 1], own[:, 1::2] + inside])
            total[:, place] = np.logaddexp.reduce(begun, axis=1)
            inside = np.logaddexp(total[:, [place]], own[:, 2::2] + inside)
        return total


KINDS.add(TokenLabels())
