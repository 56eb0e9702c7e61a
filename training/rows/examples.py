"""Checked rows: an item with its target, the rows of a split, and one digest of everything they hold."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from training.rows.items import ChoiceItem, Item


class Span(NamedTuple):
    """A labelled part of a text: `start` to `end` in characters, and the index of its label."""

    start: int
    end: int
    label: int


@dataclass(frozen=True)
class WordSpans:
    """The labelled parts of a text, in order, none over another; and its words as a tokenizer makes them.

    `words` are (start, end) of each; empty until the tokenizer is known.
    """

    spans: tuple[Span, ...]
    words: tuple[tuple[int, int], ...] = ()


Target = int | float | tuple[int, ...] | tuple[str, ...] | WordSpans


@dataclass(frozen=True, slots=True)
class Example:
    """One row: its text, pair or choices, its parsed label, and its row number in the file."""

    text: Item
    target: Target
    row: int


@dataclass(frozen=True)
class Split:
    """Checked rows of one file, or drawn from one."""

    name: str
    source: str
    examples: tuple[Example, ...]

    def of(self, rows: Sequence[int]) -> "Split":
        """These rows alone, in this order."""
        return replace(self, examples=tuple(self.examples[row] for row in rows))

    @property
    def texts(self) -> list[Item]:
        """The inputs, in order."""
        return [example.text for example in self.examples]

    @property
    def targets(self) -> list[Target]:
        """The labels, in order."""
        return [example.target for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)


def label_counts(targets: Iterable[Target]) -> Counter[int]:
    """How many rows have each label, by its index; of spans, how many of these."""
    counts: Counter[int] = Counter()
    for target, count in Counter(targets).items():
        for index in labels_of(target):
            counts[int(index)] += count
    return counts


def labels_of(target: Target) -> tuple[int | float | str, ...]:
    """All that one row has: none, one or several; a number or a text is one."""
    if isinstance(target, WordSpans):
        return tuple(span.label for span in target.spans)
    return target if isinstance(target, tuple) else (target,)


def digest_of(head: Sequence[object], splits: Iterable[Split]) -> str:
    """`sha256:<hex>` of what decides what is learnt: `head` (kind, fields, labels), rows and their order."""
    encoder = json.JSONEncoder(ensure_ascii=False, default=vars)
    total = hashlib.sha256(encoder.encode(head).encode())
    for split in splits:
        total.update(f"\n{split.name} {len(split)}".encode())
        for example in split.examples:
            total.update(b"\n")
            row = encoder.encode([_plain(example.text), example.target])
            total.update(row.encode("utf-8", "surrogatepass"))
    return f"sha256:{total.hexdigest()}"


def _plain(item: Item) -> object:
    if isinstance(item, ChoiceItem):
        return {"text": item.text, "choices": item.choices}
    return item
