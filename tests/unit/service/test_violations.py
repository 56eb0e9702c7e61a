"""Violations in the words of the interface: JSON's types, sizes instead of texts, nothing of pydantic's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from failures import Failure
from service.api.predict import parse
from service.api.schemas import PredictRequest
from service.api.violations import shown
from service.errors import InvalidInput, MalformedRequest

SOUND = {"task": "a", "inputs": ["a"]}
REMEDY = "docs/api.md and /openapi.json have the form of the request"
PYDANTIC = (
    "Value error",
    "Input should",
    "valid",
    "dict",
    "str ",
    "NoneType",
    "Extra inputs",
    "Field required",
)


def _problems(body: Any) -> tuple[str, tuple[Failure, ...]]:
    with pytest.raises(InvalidInput) as caught:
        parse(json.dumps(body).encode())
    return str(caught.value), caught.value.failures


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"task": "a"}, Failure("inputs", "nothing", "a value", "add it")),
        (
            {"inputs": ["a"]},
            Failure("task", "nothing", "a name, or tasks with a list of names", "say which task answers"),
        ),
        (
            SOUND | {"tasks": ["b"]},
            Failure("tasks", "a list of length 1", "either task or tasks", "leave one of them out"),
        ),
        (
            SOUND | {"max_new_tokens": 5},
            Failure(
                "max_new_tokens", "5", "nothing without generate", 'leave it out, or send "generate": true'
            ),
        ),
        (
            SOUND | {"generate": True, "raw": True},
            Failure("raw", "true", "nothing with generate, which gives a text and no scores", "leave it out"),
        ),
        (SOUND | {"task": {}}, Failure("task", "an object", "a string", REMEDY)),
        (SOUND | {"task": 5}, Failure("task", "5", "a string", REMEDY)),
        ({"tasks": "a", "inputs": ""}, Failure("tasks", "a string of length 1", "a list", REMEDY)),
        (
            {"tasks": [], "inputs": ""},
            Failure("tasks", "a list of length 0", "a length of at least 1", REMEDY),
        ),
        ({"tasks": ["a", 1.5], "inputs": ""}, Failure("tasks.1", "1.5", "a string", REMEDY)),
        (SOUND | {"top_k": 0}, Failure("top_k", "0", "at least 1", REMEDY)),
        (SOUND | {"top_k": 3.0}, Failure("top_k", "3.0", "a whole number", REMEDY)),
        (SOUND | {"raw": None}, Failure("raw", "null", "true or false", REMEDY)),
        (["a"], Failure("body", "a list of length 1", "an object with the fields of the request", REMEDY)),
        (
            SOUND | {"trunc": True},
            Failure(
                "trunc", "true", ", ".join(PredictRequest.model_fields), "leave it out, or correct its name"
            ),
        ),
    ],
)
def test_every_violation_has_place_value_rule_and_remedy(body: Any, wanted: Failure) -> None:
    message, problems = _problems(body)
    assert problems == (wanted,)
    assert message.endswith(f"{wanted.field}: got {wanted.got}, allowed: {wanted.allowed}")


def test_no_word_of_pydantic_is_left() -> None:
    wrong: list[Any] = [None, True, 7, 1.5, "private", [], {}, 10**60]
    for name in PredictRequest.model_fields:
        for value in wrong:
            try:
                parse(json.dumps(SOUND | {name: value}).encode())
            except InvalidInput as error:
                told = str(error) + repr(error.failures)
                assert not [word for word in (*PYDANTIC, "private") if word in told], told


def test_what_is_not_json_says_where_and_no_more() -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse(b'{"task": ')
    assert str(caught.value) == "the body is not valid JSON: EOF while parsing a value at line 1 column 9"


def test_a_long_name_of_a_field_is_cut() -> None:
    _, (found,) = _problems(SOUND | {"x" * 1000: 1})
    assert found.field == "x" * 40


def test_numbers_are_shown_and_texts_are_not() -> None:
    assert [shown(value) for value in (None, False, 3, 1e400, 10**50)] == [
        "null",
        "false",
        "3",
        "Infinity",
        "a number of many digits",
    ]
    assert shown("a private text") == "a string of length 14"
    assert shown({"a": 1}) == "an object"
    assert shown(b"") == "something that is not JSON"
