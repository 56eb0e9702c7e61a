"""Messages to a shop with the names, cities, products and dates in them: generated rows, in two formats.

    python examples/entities/orders.py FOLDER                       train, validation and test as JSON Lines
    python examples/entities/orders.py FOLDER --conll               the same as CoNLL files
    python examples/entities/orders.py FOLDER --train 300 --seed 1  fewer rows, other ones

The words of the test rows are not among those of the others: what is measured there is whether a name is
known by its place in a sentence and by its looks, and not by heart.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LISTS: dict[str, list[str]] = json.loads(Path(__file__).with_name("words.json").read_text("utf-8"))
FORMS = (
    "{person} from {city} ordered a {product} on {date}.",
    "The {product} that {person} bought in {city} is broken, please help",
    "On {date} {person} flew to {city}.",
    "{person} and {person} live in {city}, not in {city}.",
    "Please send the {product} to {city} by {date}!",
    "is the {product} better than the {product}?",
    "Call {person} ({city}) before {date}.",
    "my name is {person}, I am waiting for my {product} since {date}",
    "Is there a shop in {city} that sells the {product}?",
    "{person}: the parcel for {city} never came",
    "Nothing arrived so far, and nobody answers.",
    "thanks a lot for the quick reply",
    "How do I reset my password?",
)
_FIELD = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"\w+|[^\w\s]")


class Words:
    """A part of each list: the last quarter for the test rows, the rest for all others."""

    def __init__(self, chooser: random.Random, *, test: bool) -> None:
        self._chooser = chooser
        self._lists = {
            name: own[-(len(own) // 4) :] if test else own[: -(len(own) // 4)] for name, own in LISTS.items()
        }

    def one(self, label: str) -> str:
        """A text for a label."""
        chooser = self._chooser
        if label == "person":
            last = f" {chooser.choice(self._lists['last'])}" if chooser.random() < 0.7 else ""
            return chooser.choice(self._lists["first"]) + last
        if label == "date":
            return self._date()
        return chooser.choice(self._lists[label])

    def _date(self) -> str:
        chooser = self._chooser
        day, year = chooser.randint(1, 28), chooser.randint(2010, 2029)
        month = chooser.choice(LISTS["month"])
        return chooser.choice((f"{day} {month}", f"{month} {day}, {year}", f"{year}-0{day % 9 + 1}-{day:02}"))


def rows(count: int, seed: int, *, test: bool = False) -> Iterator[dict[str, Any]]:
    """Texts, each with its entities by character."""
    chooser = random.Random(seed)  # noqa: S311 - nothing secret
    words = Words(chooser, test=test)
    for _ in range(count):
        text, entities, done = "", [], 0
        form = chooser.choice(FORMS)
        for field in _FIELD.finditer(form):
            text += form[done : field.start()]
            found = words.one(field[1])
            entities.append({"start": len(text), "end": len(text) + len(found), "label": field[1]})
            text, done = text + found, field.end()
        yield {"text": text + form[done:], "entities": entities}


def as_conll(row: dict[str, Any]) -> str:
    """A word and its tag a line, in IOB2."""
    lines = []
    for word in _WORD.finditer(row["text"]):
        own = next((e for e in row["entities"] if e["start"] <= word.start() < e["end"]), None)
        mark = "O" if own is None else ("B-" if own["start"] == word.start() else "I-") + own["label"]
        lines.append(f"{word[0]} {mark}\n")
    return "".join(lines) + "\n"


def write(folder: Path, sizes: Sequence[int], seed: int, *, conll: bool) -> None:
    """Train, validation and test rows of these sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (split, size) in enumerate(zip(("train", "validation", "test"), sizes, strict=True)):
        found = rows(size, 1000 * seed + number, test=split == "test")
        lines = (as_conll(row) if conll else f"{json.dumps(row)}\n" for row in found)
        path = folder / f"{split}{'.conll' if conll else '.jsonl'}"
        path.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conll", action="store_true", help="CoNLL files instead of JSON Lines")
    parser.add_argument("--train", type=int, default=400, help="train rows (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, (given.train, 100, 200), given.seed, conll=given.conll)


if __name__ == "__main__":
    main()
