"""Raw items: which forms there are, and that each wrong one says what it is and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from service.engine.items import (
    SHORT_CHARS,
    SHORT_ROWS,
    Item,
    are_short,
    num_chars_of,
    num_row_chars_of,
    num_rows_of,
    parse_item,
    wrong_form,
)
from service.engine.request import ItemError
from tests.unit.service.fakes import BINARY, CHOICE, STRINGS, card


@pytest.mark.parametrize(
    ("item", "expected", "texts"),
    [
        ("", Item(""), [""]),
        ("a text", Item("a text"), ["a text"]),
        ({"text": "a"}, Item("a"), ["a"]),
        ({"text": "a", "text_pair": None, "choices": None}, Item("a"), ["a"]),
        ({"text": "a", "text_pair": ""}, Item("a", ""), [("a", "")]),
        ({"text": "a", "text_pair": "b"}, Item("a", "b"), [("a", "b")]),
        ({"text": "a", "choices": ["b", ""]}, Item("a", None, ("b", "")), [("a", "b"), ("a", "")]),
    ],
)
def test_valid_items(item: object, expected: Item, texts: object) -> None:
    parsed = parse_item(item, 0, 100)
    assert parsed == expected
    assert expected.rows == texts


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (None, "is null"),
        (3, "is a number"),
        (True, "is a boolean"),
        (["a", "b"], "is a list"),
        ({}, "text that is missing"),
        ({"text": None}, "text that is null"),
        ({"text": 1}, "text that is a number"),
        ({"text": "a", "text_pair": 1}, "text_pair that is a number"),
        ({"text": "a", "textpair": "b"}, "unknown field 'textpair'"),
        ({"text": "a", "text_pair": "b", "choices": ["c", "d"]}, "has a text_pair and choices"),
        ({"choices": ["c", "d"]}, "text that is missing"),
    ],
)
def test_invalid_items_say_what_they_are(item: object, says: str) -> None:
    error = parse_item(item, 7, 100)
    assert isinstance(error, ItemError)
    assert error.code == "invalid_item"
    assert error.index == 7
    assert error.message.startswith("inputs[7] ")
    assert says in error.message


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ("ab", "choices that are a string"),
        ({}, "choices that are an object"),
        ([], "has 0 choices"),
        (["a"], "has 1 choices"),
        ([str(k) for k in range(101)], "has 101 choices"),
        (["a", 3], "a choice that is a number (choices[1])"),
        (["a", None], "a choice that is null (choices[1])"),
        (["a", "b", "a"], "the same choice twice (choices[0] and [2])"),
    ],
)
def test_wrong_choices_say_what_is_allowed(choices: Any, says: str) -> None:
    error = parse_item({"text": "a", "choices": choices}, 3, 1000)
    assert isinstance(error, ItemError)
    assert (error.code, error.index) == ("invalid_choices", 3)
    assert says in error.message
    assert "2 to 100 different strings" in error.message


def test_a_hundred_choices_are_allowed() -> None:
    parsed = parse_item({"text": "a", "choices": [str(k) for k in range(100)]}, 0, 1000)
    assert isinstance(parsed, Item)


@pytest.mark.parametrize("second", [{"text_pair": "b" * 60}, {"choices": ["b" * 30, "c" * 30]}])
def test_a_text_of_too_many_characters_is_refused_before_it_is_tokenised(second: dict[str, Any]) -> None:
    error = parse_item({"text": "a" * 60, **second}, 2, 100)
    assert isinstance(error, ItemError)
    assert error.as_json() == {
        "code": "too_long",
        "message": error.message,
        "index": 2,
        "chars": 120,
        "limit": 100,
    }


TEXT, PAIR, CHOICES = Item("a"), Item("a", "b"), Item("a", None, ("b", "c"))


@pytest.mark.parametrize(
    ("spec", "fields", "item", "code", "says"),
    [
        (BINARY, ("text",), TEXT, None, ""),
        (BINARY, ("text",), PAIR, "text_pair_not_allowed", "reads one text (text)"),
        (BINARY, ("text",), CHOICES, "choices_not_allowed", "is a single_label"),
        (BINARY, ("a", "b"), PAIR, None, ""),
        (BINARY, ("a", "b"), TEXT, "text_pair_required", "two texts (a, b)"),
        (BINARY, ("a", "b"), CHOICES, "choices_not_allowed", "is a single_label"),
        (STRINGS, ("text",), TEXT, None, ""),
        (CHOICE, ("premise",), CHOICES, None, ""),
        (CHOICE, ("premise", "choices"), CHOICES, None, ""),
        (CHOICE, ("premise",), TEXT, "choices_required", '"choices": ["'),
        (CHOICE, ("premise",), PAIR, "choices_required", '"choices": ["'),
    ],
)
def test_a_task_takes_its_own_form(
    spec: Any, fields: tuple[str, ...], item: Item, code: str | None, says: str
) -> None:
    error = wrong_form(card(spec=spec, fields=fields), item, 4)
    assert (None if error is None else error.code) == code
    if error is not None:
        assert error.message.startswith("inputs[4] has ")
        assert says in error.message


def test_sizes_of_raw_items() -> None:
    many = {"text": "ab", "choices": [str(k % 10) for k in range(1000)]}
    items: list[object] = ["abc", {"text": "ab", "text_pair": "c"}, 5, None, [], {"choices": 3}]
    assert [num_chars_of(item) for item in items] == [3, 3, 0, 0, 0, 0]
    assert [num_rows_of(item) for item in items] == [1] * 6
    with_choices = {"text": "abc", "choices": ["d", "ef", 7]}
    assert (num_chars_of(with_choices), num_rows_of(with_choices)) == (6, 3)
    assert num_row_chars_of(with_choices) == 6 + 2 * 3
    assert (num_chars_of(many), num_rows_of(many)) == (102, 100)  # no more than would be read


def test_only_what_is_quickly_read_is_short() -> None:
    most = "x" * SHORT_CHARS
    short: list[list[object]] = [
        ["a"],
        [most],
        ["a"] * SHORT_ROWS,
        [5, None],
        [{"text": "a", "choices": ["b", "c"]}],
    ]
    assert all(are_short(items, 1) for items in short)
    long: list[tuple[list[object], int]] = [
        ([most + "x"], 1),
        ([{"text": most, "text_pair": "b"}], 1),
        (["a"] * (SHORT_ROWS + 1), 1),
        (["a", "b"], SHORT_ROWS),
        ([{"text": "a", "choices": ["b"] * (SHORT_ROWS + 1)}], 1),
        ([{"text": "a", "choices": ["b", "c", "d"]}], 2),
        ([{str(key): 1 for key in range(1000)}], 1),  # every key of it would be looked at
    ]
    assert not any(are_short(items, num_tasks) for items, num_tasks in long)
