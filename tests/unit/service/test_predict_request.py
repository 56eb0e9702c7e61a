"""The body of a predict call: strict, with every violation listed, and limits that name their remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.api.predict import check_scores, check_size, parse
from service.api.tasks import expected_revision
from service.errors import InvalidInput, MalformedRequest


def _parse(**fields: Any) -> Any:
    return parse(json.dumps(fields).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b'{"task": "a", "inputs": ["\xff"]}', b'"\\ud800"'])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse(body)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, ["inputs"]),
        ({"inputs": ["a"]}, ["body"]),
        ({"task": "a", "tasks": ["b"], "inputs": ["a"]}, ["body"]),
        ({"tasks": [], "inputs": ["a"]}, ["tasks"]),
        ({"task": 1, "inputs": ["a"]}, ["task"]),
        ({"task": "a", "inputs": ["a"], "top_k": 0, "raw": "yes", "trunc": True}, ["top_k", "raw", "trunc"]),
        ({"task": "a", "inputs": ["a"], "top_k": "3"}, ["top_k"]),
    ],
)
def test_violations_are_all_listed(fields: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        _parse(**fields)
    assert [problem.field for problem in caught.value.problems] == named


def test_a_violation_does_not_quote_the_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        _parse(task="a", inputs=["a"], raw="something private")
    assert "private" not in str(caught.value) + repr(caught.value.problems)


def test_limits_say_what_is_allowed_and_what_to_do() -> None:
    ask = _parse(task="a", inputs=[])
    with pytest.raises(InvalidInput, match="inputs: got 0, allowed: 1 to 10; send at least one"):
        check_size(ask, [], max_items=10, max_tasks=3)
    with pytest.raises(InvalidInput, match="inputs: got 11, allowed: 1 to 10; send several requests"):
        check_size(ask, [""] * 11, max_items=10, max_tasks=3)
    with pytest.raises(InvalidInput, match="tasks: got 4, allowed: 1 to 3"):
        check_size(_parse(tasks=list("abcd"), inputs=[""]), [""], max_items=10, max_tasks=3)
    with pytest.raises(InvalidInput, match="at most 12 inputs"):
        check_scores(num_labels=80, num_items=13, max_scores=1000)
    check_scores(num_labels=80, num_items=12, max_scores=1000)


def test_if_match() -> None:
    assert expected_revision(None) is None
    assert expected_revision("*") is None
    assert expected_revision('"7"') == 7
    assert expected_revision(' W/"12" ') == 12
    for bad in ("7", '"seven"', "", '"7", "8"'):
        with pytest.raises(MalformedRequest):
            expected_revision(bad)
