"""Rows to learn from and rows to answer, as JSON Lines: one text or a pair, and a label or a number."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

Texts = tuple[str, ...]
"""One text, or the two of a pair."""


@dataclass(frozen=True)
class Row:
    """What is read, and the right answer: the index of a class, or a number."""

    texts: Texts
    label: float

    def to_line(self) -> str:
        """One line of a JSON Lines file."""
        return json.dumps({"texts": list(self.texts), "label": self.label})


@dataclass(frozen=True)
class Problem:
    """Train rows, the texts to answer, and where: `backbone` is a folder of a model of `transformers`.

    `numbers`: the answers are numbers, not classes. `num_labels` counts the classes, 1 for numbers.
    """

    train: tuple[Row, ...]
    test: tuple[Texts, ...]
    num_labels: int
    numbers: bool
    backbone: str
    device: str = "cpu"
    seed: int = 0

    @property
    def texts(self) -> list[Texts]:
        """Those of the train rows."""
        return [row.texts for row in self.train]

    @property
    def labels(self) -> list[float]:
        """Those of the train rows."""
        return [row.label for row in self.train]

    def with_rows(self, train: Sequence[Row], test: Sequence[Texts]) -> "Problem":
        """The same problem on other rows."""
        return replace(self, train=tuple(train), test=tuple(test))


def read_rows(path: Path) -> tuple[Row, ...]:
    """Rows of a JSON Lines file, `{"texts": [...], "label": 3}` a line.

    Raises:
        ValueError: a line that is no such row, with its number.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found = json.loads(line)
            rows.append(Row(tuple(map(str, found["texts"])), float(found["label"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path}, line {number}: wanted {{"texts": [...], "label": ...}}') from error
    return tuple(rows)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(row.to_line() + "\n" for row in rows), encoding="utf-8")
