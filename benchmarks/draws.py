"""Rows of the public data sets as a person would have them: some to learn from, others that chose nothing.

A seed draws the train rows. The test rows are always the same: those of the official test file, or of the
validation file where test labels are not public; no train row has the text of a test row.
"""

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.problem import Problem, Row, Texts

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is drawn of a data set: `rows` of them, or `per_class` of each class.

    `metric` decides, in the words of `trunkline train --metric`; `numbers`: the class's index is a number
    to be told.
    """

    name: str
    data: str
    rows: int = 0
    per_class: int = 0
    metric: str = "accuracy"
    tests: tuple[str, ...] = ("test",)
    max_test_rows: int = 1000
    numbers: bool = False


@dataclass(frozen=True)
class Drawn:
    """Rows of a case as the data set has them, and the card that says how they are read."""

    card: Json
    train: tuple[Json, ...]
    test: tuple[Json, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes; none where the answers are numbers."""
        return tuple(self.card["label_names"])

    @property
    def numbers(self) -> bool:
        return not self.names

    @property
    def truth(self) -> list[float]:
        """The right answers to the test rows."""
        return [float(row["label"]) for row in self.test]

    def texts(self, row: Json) -> Texts:
        """What is read of a row."""
        return tuple(str(row[field]) for field in self.card["text_fields"])

    def write(self, folder: Path) -> None:
        """As a folder for `trunkline train`: the held-out rows are left for it to draw."""
        for name, rows in (("train", self.train), ("test", self.test)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (folder / "dataset.json").write_text(json.dumps(self.card), encoding="utf-8")

    def problem(self, backbone: str, device: str, seed: int) -> Problem:
        """The same rows for the alternatives."""
        train = tuple(Row(self.texts(row), float(row["label"])) for row in self.train)
        texts = tuple(self.texts(row) for row in self.test)
        return Problem(train, texts, max(1, len(self.names)), self.numbers, backbone, device, seed)


def draw(case: Case, data: Path, seed: int) -> Drawn:
    """The rows of a case that a seed draws. Raises ValueError where there are too few."""
    folder = data / case.data
    card = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    fields = card["text_fields"]
    kept = [*fields, "label"]
    test = [_only(row, kept) for split in case.tests for row in _read(folder, split)]
    if len(test) > case.max_test_rows:
        test = random.Random("test rows").sample(test, case.max_test_rows)
    seen = {tuple(row[field] for field in fields) for row in test}
    pool = [_only(row, kept) for row in _read(folder, "train")]
    pool = [row for row in pool if tuple(row[field] for field in fields) not in seen]
    train = _drawn(case, pool, random.Random(f"train rows {seed}"))
    wanted: Json = {"kind": card["kind"], "text_fields": fields, "label_names": card["label_names"]}
    if case.numbers:
        wanted |= {"kind": "regression", "label_names": []}
        train, test = ([row | {"label": float(row["label"])} for row in rows] for rows in (train, test))
    return Drawn(wanted, tuple(train), tuple(test))


def _drawn(case: Case, pool: Sequence[Json], rng: random.Random) -> list[Json]:
    """Some of the pool, in a random order."""
    if not case.per_class:
        if len(pool) < case.rows:
            raise ValueError(f"{case.name}: {case.rows} rows are wanted, {case.data} has {len(pool)}")
        return rng.sample(list(pool), case.rows)
    found = []
    for label in sorted({row["label"] for row in pool}):
        found += rng.sample([row for row in pool if row["label"] == label], case.per_class)
    rng.shuffle(found)
    return found


def _only(row: Json, fields: Sequence[str]) -> Json:
    return {field: row[field] for field in fields}


def _read(folder: Path, split: str) -> list[Json]:
    with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
