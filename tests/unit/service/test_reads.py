"""What a version tells of the fields of its training rows: what a trainer notes, nothing else of a file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.residency.card import _reads

FORMATTER = {
    "name": "rte",
    "fields": ["sentence1", "sentence2"],
    "prefix": "rte",
    "targets": "digits",
    "official_code": False,
}


def reads(config: dict[str, Any]) -> dict[str, object] | None:
    """Of a manifest with this provenance."""
    manifest = SimpleNamespace(provenance=SimpleNamespace(config=config))
    return _reads(manifest)  # type: ignore[arg-type]  # only its provenance is read


def test_what_a_trainer_notes_is_told() -> None:
    fields = {"text_fields": ["premise", "question"], "choice_fields": ["choice1", "choice2"]}
    noted = {"formatter": FORMATTER, "names": ["a"], "source_form": "rte …"}
    found = reads({**fields, "text_to_text": noted, "seed": 1, "data": "a folder of somebody's"})
    assert found == {**fields, "formatter": FORMATTER}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"text_fields": None, "choice_fields": None},
        {"text_fields": "text"},
        {"text_fields": []},
        {"text_fields": [1]},
        {"text_fields": ["x" * 501]},
        {"text_fields": ["x"] * 101},
        {"text_to_text": "rte"},
        {"text_to_text": {"formatter": {**FORMATTER, "fields": "a"}}},
        {"text_to_text": {"formatter": {**FORMATTER, "prefix": {"much": "x"}}}},
        {"text_to_text": {"formatter": {**FORMATTER, "prefix": "x" * 501}}},
    ],
)
def test_what_has_another_form_is_not_passed_on(config: dict[str, Any]) -> None:
    assert reads(config) is None
