"""The demo's data keeps what its cards and its README say. Reads files only; trains nothing."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "examples" / "support_desk"
TASKS = ("intents", "urgency", "duplicates", "tags")
SPLITS = ("train", "validation")


def rows_of(task: str, split: str) -> list[dict[str, Any]]:
    lines = (FOLDER / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def card_of(task: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((FOLDER / task / "dataset.json").read_text(encoding="utf-8"))
    return card


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def texts_of(task: str, split: str) -> list[str]:
    fields = card_of(task)["text_fields"]
    return [row[field] for row in rows_of(task, split) for field in fields]


@pytest.mark.parametrize("task", TASKS)
def test_card_agrees_with_the_rows(task: str) -> None:
    card = card_of(task)
    assert card["licence"] == "CC0-1.0"
    for split in SPLITS:
        rows = rows_of(task, split)
        assert len(rows) == card["sizes"][split]
        assert all(set(row) == {*card["text_fields"], "label"} for row in rows)
        assert all(row[field].strip() == row[field] != "" for row in rows for field in card["text_fields"])


@pytest.mark.parametrize("task", ["intents", "duplicates", "tags"])
def test_label_counts_agree_with_the_rows(task: str) -> None:
    card = card_of(task)
    for split in SPLITS:
        labels = [row["label"] for row in rows_of(task, split)]
        found = Counter(name for label in labels for name in ([label] if isinstance(label, str) else label))
        assert set(found) == set(card["label_names"]), "every label occurs, and no other"
        assert [found[name] for name in card["label_names"]] == card["label_counts"][split]


def test_urgency_lies_on_its_scale_with_one_decimal() -> None:
    for split in SPLITS:
        labels = [row["label"] for row in rows_of("urgency", split)]
        assert all(0 <= label <= 10 and round(label, 1) == label for label in labels)
        assert min(labels) < 1
        assert max(labels) > 9


def test_tags_have_no_tag_twice_and_at_most_four() -> None:
    for split in SPLITS:
        labels = [row["label"] for row in rows_of("tags", split)]
        assert all(len(set(label)) == len(label) <= 4 for label in labels)
        assert [] in labels


@pytest.mark.parametrize("task", TASKS)
def test_no_row_stands_twice(task: str) -> None:
    rows = [row for split in SPLITS for row in rows_of(task, split)]
    keys = [frozenset(words(row[field]) for field in card_of(task)["text_fields"]) for row in rows]
    assert [rows[i] for i, key in enumerate(keys) if key in keys[:i]] == []


@pytest.mark.parametrize("task", TASKS)
def test_held_out_rows_are_unlike_every_train_row(task: str) -> None:
    train = {text: words(text) for text in texts_of(task, "train")}
    leaks = [
        (held_out, text)
        for held_out in texts_of(task, "validation")
        for text, known in train.items()
        if overlap(words(held_out), known) > 0.6
    ]
    assert leaks == []


def test_readme_states_the_sizes() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for task in TASKS:
        sizes = card_of(task)["sizes"]
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{task}/`"))
        cells = [cell.strip() for cell in row.split("|")]
        assert [int(cells[4]), int(cells[5])] == [sizes["train"], sizes["validation"]]


def test_neither_ticket_alone_gives_a_duplicate_away() -> None:
    """Many first tickets occur in a duplicate and in a different pair, so only the pair can tell."""
    rows = rows_of("duplicates", "train") + rows_of("duplicates", "validation")
    seen: dict[str, set[str]] = {}
    for row in rows:
        for field in ("ticket1", "ticket2"):
            seen.setdefault(row[field].lower(), set()).add(row["label"])
    assert sum(len(labels) == 2 for labels in seen.values()) >= 50
