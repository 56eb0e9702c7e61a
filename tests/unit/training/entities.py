"""Made-up texts with entities over the words of the tiny backbones: learnable, and of several words each."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.tiny import WORDS
from tests.unit.training.conftest import write_rows

FIRST, MORE, PLAIN = WORDS[:4], WORDS[4:7], WORDS[7:14]


def make_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Labels `even` and `odd` for the words w0 to w3, which w4 to w6 may follow."""
    chooser = random.Random(seed)
    rows = []
    for _ in range(count):
        text, entities = "", []
        for _ in range(chooser.randint(0, 3)):
            text += "".join(chooser.choice(PLAIN) + " " for _ in range(chooser.randint(0, 3)))
            number = chooser.randrange(len(FIRST))
            found = " ".join([FIRST[number], *chooser.choices(MORE, k=chooser.randint(0, 2))])
            label = "odd" if number % 2 else "even"
            entities.append({"start": len(text), "end": len(text) + len(found), "label": label})
            text += f"{found}, " if chooser.random() < 0.5 else f"{found} "
        rows.append({"text": f"{text}{chooser.choice(PLAIN)}", "entities": entities})
    return rows


def write_entities(folder: Path, num_train: int = 120, num_validation: int = 40) -> Path:
    write_rows(folder / "train.jsonl", make_rows(num_train, 1))
    write_rows(folder / "validation.jsonl", make_rows(num_validation, 2))
    return folder
