"""The body of a predict call: strict, with every violation listed, and limits that name their remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from modeling import HeadSpec
from service.api.generation import check_generate
from service.api.predict import (
    check_scores,
    check_size,
    estimate_tokens,
    num_outputs,
    parse,
)
from service.api.tasks import expected_revision
from service.engine.request import Job, ServingCard
from service.errors import InvalidInput, MalformedRequest
from service.residency.cache import Resident
from tests.unit.service.fakes import CHOICE, STRINGS, Finished, card, job


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
        ({"inputs": ["a"]}, ["task"]),
        ({"task": "a", "tasks": ["b"], "inputs": ["a"]}, ["tasks"]),
        ({"tasks": [], "inputs": ["a"]}, ["tasks"]),
        ({"task": 1, "inputs": ["a"]}, ["task"]),
        ({"task": "a", "inputs": ["a"], "top_k": 0, "raw": "yes", "trunc": True}, ["top_k", "raw", "trunc"]),
        ({"task": "a", "inputs": ["a"], "top_k": "3"}, ["top_k"]),
        ({"task": "a", "inputs": ["a"], "generate": 1}, ["generate"]),
        ({"task": "a", "inputs": ["a"], "generate": True, "max_new_tokens": 0}, ["max_new_tokens"]),
        ({"task": "a", "inputs": ["a"], "max_new_tokens": 5}, ["max_new_tokens"]),
        ({"task": "a", "inputs": ["a"], "generate": True, "raw": True}, ["raw"]),
        ({"inputs": ["a"], "generate": True, "top_k": 1, "raw": True}, ["task", "raw", "top_k"]),
    ],
)
def test_violations_are_all_listed(fields: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        _parse(**fields)
    assert [problem.field for problem in caught.value.failures] == named


def test_a_violation_does_not_quote_the_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        _parse(task="a", inputs=["a"], raw="something private")
    assert "private" not in str(caught.value) + repr(caught.value.failures)


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


def _resident(task: str, spec: HeadSpec) -> Resident[ServingCard]:
    return Resident(task, 1, "sha256:00", 1, card(spec=spec))


def test_only_text_to_text_generates_and_only_so_much() -> None:
    writer, chooser = _resident("rte", STRINGS), _resident("copa", CHOICE)
    ask = _parse(task="rte", inputs=["a"], generate=True)
    assert check_generate(ask, [writer], 128) == 16
    assert check_generate(ask, [writer], 10) == 10
    assert check_generate(_parse(task="rte", inputs=["a"]), [writer, chooser], 128) == 0
    most = _parse(task="rte", inputs=["a"], generate=True, max_new_tokens=128)
    assert check_generate(most, [writer], 128) == 128
    with pytest.raises(InvalidInput, match="max_new_tokens: got 128, allowed: 1 to 127"):
        check_generate(most, [writer], 127)
    with pytest.raises(InvalidInput, match="not for copa: multiple_choice") as caught:
        check_generate(ask, [writer, chooser], 128)
    assert caught.value.code == "generate_not_allowed"
    assert [problem.field for problem in caught.value.failures] == ["generate"]


FREE = HeadSpec("text_to_text", (), "none", max_new_tokens=7)


def test_a_task_without_labels_writes_unasked_as_much_as_it_says() -> None:
    free, long = _resident("squad", FREE), _resident("record", replace(FREE, max_new_tokens=30))
    plain, asked = _parse(task="squad", inputs=["a"]), _parse(task="squad", inputs=["a"], generate=True)
    assert check_generate(plain, [free, free], 128) == check_generate(asked, [free], 128) == 7
    most = _parse(tasks=["squad", "record"], inputs=["a"], generate=True, max_new_tokens=9)
    assert check_generate(most, [free, long], 128) == 9
    with pytest.raises(
        InvalidInput, match=r"got 30, allowed: 1 to 20; .* the server's setting max_new_tokens"
    ):
        check_generate(plain, [long], 20)
    with pytest.raises(InvalidInput, match=r"\(squad: 7, record: 30 tokens\); say max_new_tokens"):
        check_generate(plain, [free, long], 128)


@pytest.mark.parametrize(
    ("fields", "others", "message"),
    [
        ({}, ["rte"], "tasks: squad answer with any text, the others with labels; ask rte in another"),
        ({"raw": True}, [], "raw: squad answers with any text and has no scores"),
        ({"top_k": 1}, [], "top_k: squad answers with any text and has no scores"),
        ({"generate": True}, ["copa"], "generate is for text_to_text tasks, not for copa: multiple_choice"),
        ({"generate": True}, ["rte"], r"different lengths \(squad: 7, rte: 16 tokens\)"),
    ],
)
def test_what_a_task_without_labels_cannot_be_asked(
    fields: dict[str, Any], others: list[str], message: str
) -> None:
    known = {"rte": _resident("rte", STRINGS), "copa": _resident("copa", CHOICE)}
    residents = [_resident("squad", FREE), *(known[name] for name in others)]
    with pytest.raises(InvalidInput, match=message):
        check_generate(_parse(task="squad", inputs=["a"], **fields), residents, 128)


def test_a_multiple_choice_has_as_many_logits_as_its_largest_item() -> None:
    items = ["a", {"text": "a", "choices": ["b", "c", "d"]}, {"text": "a", "choices": ["b", "c"]}]
    assert num_outputs(card(spec=CHOICE), items) == 3
    assert num_outputs(card(spec=CHOICE), ["a"]) == 1
    assert num_outputs(card(spec=STRINGS), items) == 2


def test_the_estimate_counts_rows_choices_virtual_and_decoder_tokens() -> None:
    text = "x" * 40
    assert estimate_tokens(_job([text])) == 11
    assert estimate_tokens(_job([text] * 3, card(), card(body_slot=2))) == 2 * 33
    assert estimate_tokens(_job([text], card(body_slot=0), card(body_slot=0))) == 11
    assert estimate_tokens(_job([text], card(virtual_tokens=100))) == 111
    assert estimate_tokens(_job([text], card(spec=STRINGS, decoder_tokens=6))) == 17
    assert estimate_tokens(_job([text], card(decoder_per_token=1))) == 22
    assert estimate_tokens(_job([text], card(spec=STRINGS, decoder_tokens=6), max_new_tokens=50)) == 61
    choices = {"text": text, "choices": ["x" * 8, "x" * 12]}
    assert estimate_tokens(_job([choices], card(spec=CHOICE))) == 2 + (40 + 8 + 40 + 12) // 4


def _job(items: list[object], *cards: ServingCard, max_new_tokens: int = 0) -> Job:
    return job(items, *cards, announce=Finished(), max_new_tokens=max_new_tokens)


def test_if_match() -> None:
    assert expected_revision(None) is None
    assert expected_revision("*") is None
    assert expected_revision('"7"') == 7
    assert expected_revision(' W/"12" ') == 12
    for bad in ("7", '"seven"', "", '"7", "8"'):
        with pytest.raises(MalformedRequest):
            expected_revision(bad)
