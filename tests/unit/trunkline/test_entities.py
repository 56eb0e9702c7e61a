"""Entities on the client's side: read from JSON, shown on a line, as columns; words of a row as one text."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from trunkline.answers import Entity, Version, read_result
from trunkline.bulk.asking import Asked
from trunkline.bulk.columns import facts_of, values_of
from trunkline.bulk.fields import Refused, Said, items_of, reading_for
from trunkline.cli.answers import print_answers

WIRE: dict[str, Any] = {
    "label": ["city"],
    "score": 0.9,
    "scores": {},
    "entities": [{"start": 3, "end": 7, "label": "city", "text": "Rome", "score": 0.95}],
    "tokens": 5,
    "truncated": False,
}
VERSION = Version(1, "sha256:0", 9, "2026", kind="token_labels", fields=("tokens",))


def test_predictions_hold_entities_and_words() -> None:
    items = [WIRE, {**WIRE, "label": [], "entities": []}, {**WIRE, "logits": [[1, 2, 3]], "words": [[3, 7]]}]
    one, none, raw = read_result("ner", 3, {"task": "ner", "version": 1, "predictions": items})
    assert one.entities == [Entity(3, 7, "city", "Rome", 0.95)]
    assert (none.entities, none.label, one.words) == ([], [], None)
    assert (raw.logits, raw.words) == ([[1, 2, 3]], [(3, 7)])


def test_a_field_that_is_missing_is_an_answer_that_is_not_understood() -> None:
    broken = {**WIRE, "entities": [{"start": 3}]}
    with pytest.raises(KeyError):
        read_result("ner", 1, {"task": "ner", "version": 1, "predictions": [broken]})


def test_a_line_names_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    items = [WIRE, {**WIRE, "label": [], "entities": []}]
    predictions = read_result("ner", 2, {"task": "ner", "version": 1, "predictions": items})
    rows = [("ner", "in Rome", predictions[0]), ("ner", "nowhere", predictions[1])]
    assert print_answers(rows, as_json=False, many=False, top_k=None) == (2, 0)
    shown = capsys.readouterr().out
    assert "city: Rome" in shown
    assert "no entity" in shown


def test_columns_of_entities_have_types_that_parquet_keeps() -> None:
    columns = facts_of(Asked("ner", "ner", VERSION), None, {"raw": True, "truncate": True})
    assert [*columns] == ["label", "score", "entities", "logits", "truncated", "version", "error"]
    answers = read_result(
        "ner",
        2,
        {
            "task": "ner",
            "version": 1,
            "predictions": [
                {**WIRE, "logits": [[1.0]], "words": [[3, 7]]},
                {"error": {"code": "too_long", "message": "…", "index": 1}},
            ],
        },
    )
    values = values_of(columns, answers)
    arrays = {name: pa.array(values[name], column.type) for name, column in columns.items()}
    assert arrays["entities"].to_pylist() == [WIRE["entities"], None]
    assert arrays["label"].to_pylist() == [["city"], None]
    assert arrays["logits"].to_pylist() == [[[1.0]], None]


def test_words_of_a_row_are_asked_as_one_text() -> None:
    words = {"tokens": pa.list_(pa.string())}
    reading, told = reading_for("ner", VERSION, words, Said(), "rows.jsonl")
    assert "the words in 'tokens' are joined by single spaces" in told
    rows = [["in", "Rome"], "as it is [1]", "['in', 'Rome']", [], ["a", 5], None]
    found = list(items_of(reading, [rows]))
    assert found[:4] == ["in Rome", "as it is [1]", "in Rome", ""]
    assert [type(one) for one in found[4:]] == [Refused, Refused]
    assert reading_for("ner", VERSION, {"tokens": pa.string()}, Said(), "rows.csv")[1] == ""
